#include "common/plural.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace liger {

std::string Plural(int64_t count, const std::string& noun) {
  return absl::StrCat(count, " ", noun, count == 1 ? "" : "s");
}

std::string ThreeDigits(double value) {
  return value < 100 ? absl::StrFormat("%.3g", value) : absl::StrFormat("%.0f", value);
}

}  // namespace liger
