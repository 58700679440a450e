#include "common/spec/violations.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"

namespace liger {

using liger::v1::Violation;

std::string FormatViolation(const Violation& violation) {
  const bool named = violation.line() == 0 && absl::StrContains(violation.file(), '/') &&
                     absl::StrContains(violation.message(), violation.file());
  std::string place = named ? "" : violation.file();
  if (violation.line() > 0) absl::StrAppend(&place, ":", violation.line());
  if (!place.empty()) absl::StrAppend(&place, ": ");
  if (!violation.field().empty()) absl::StrAppend(&place, violation.field(), ": ");
  return place + violation.message();
}

Violation ToViolation(const liger::v1::Failure& failure) {
  Violation violation;
  violation.set_field(failure.field());
  const std::string prefix = failure.field().empty() ? "" : failure.field() + ": ";
  violation.set_message(
      WithAction(std::string(absl::StripPrefix(failure.message(), prefix)), failure.action()));
  violation.set_file(failure.file());
  violation.set_row(failure.row());
  return violation;
}

std::string WithAction(const std::string& message, const std::string& action) {
  if (action.empty()) return message;
  std::string rest(absl::StripSuffix(action, "."));
  // Not an acronym or a name in capitals.
  const bool word = rest.size() > 1 && !absl::ascii_isupper(static_cast<unsigned char>(rest[1]));
  if (word) rest[0] = absl::ascii_tolower(static_cast<unsigned char>(rest[0]));
  return absl::StrCat(absl::StripSuffix(message, "."), "; ", rest);
}

absl::Status ViolationsToStatus(const std::vector<Violation>& violations) {
  if (violations.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrJoin(violations, "\n", [](std::string* out, const Violation& violation) {
        out->append(FormatViolation(violation));
      }));
}

}  // namespace liger
