#include "absl/strings/numbers.h"
#include "client/commands/commands.h"

namespace liger::client {

CLI::Validator Positive() {
  return CLI::Validator(
      [](std::string& text) -> std::string {
        double value = 0;
        return absl::SimpleAtod(text, &value) && value > 0 ? "" : "'" + text + "' is not above 0";
      },
      "", "positive");
}

CLI::Validator WholeNumber() {
  return CLI::Validator(
      [](std::string& text) -> std::string {
        int64_t value = 0;
        return absl::SimpleAtoi(text, &value) && value >= 0
                   ? ""
                   : "'" + text + "' is not a whole number, 0 or above";
      },
      "", "whole number");
}

CLI::Validator NotEmpty() {
  return CLI::Validator(
      [](std::string& text) -> std::string { return text.empty() ? "it is empty" : ""; }, "",
      "not empty");
}

}  // namespace liger::client
