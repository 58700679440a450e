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

CLI::Validator NotEmpty() {
  return CLI::Validator(
      [](std::string& text) -> std::string { return text.empty() ? "it is empty" : ""; }, "",
      "not empty");
}

}  // namespace liger::client
