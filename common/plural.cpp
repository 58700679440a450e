#include "common/plural.h"

#include "absl/strings/str_cat.h"

namespace liger {

std::string Plural(int64_t count, const std::string& noun) {
  return absl::StrCat(count, " ", noun, count == 1 ? "" : "s");
}

}  // namespace liger
