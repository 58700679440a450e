#include "common/spec/violations.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "liger/v1/job_spec.pb.h"

namespace liger {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using liger::v1::Violation;

namespace {

// Whether it is the path of a field within one of a job's sections: "dataset.columns.prompt",
// not "messages[0].content". A bare name may be a column's, too (output).
bool IsPathBelowJob(const std::string& path) {
  const std::vector<std::string> names = absl::StrSplit(path, '.');
  const Descriptor* type = liger::v1::JobSpec::descriptor();
  for (const std::string& name : names) {
    if (type == nullptr) return false;
    const FieldDescriptor* field = type->FindFieldByName(name.substr(0, name.find('[')));
    if (field == nullptr) return false;
    if (field->is_map()) break;  // any key
    type = field->message_type();
  }
  return names.size() > 1;
}

}  // namespace

std::string FormatViolation(const Violation& violation) {
  const std::string& file = violation.file();
  const bool has_path =
      absl::StrContains(file, '/') && absl::StrContains(violation.message(), file);
  const bool has_name = absl::StrContains(violation.message(), absl::StrCat("'", file, "'"));
  const bool named = violation.line() == 0 && (has_path || has_name);
  std::string place = named ? "" : violation.file();
  if (violation.line() > 0) absl::StrAppend(&place, ":", violation.line());
  if (!place.empty()) absl::StrAppend(&place, ": ");
  if (!violation.field().empty()) absl::StrAppend(&place, violation.field(), ": ");
  return place + violation.message();
}

Violation ToViolation(const liger::v1::Failure& failure, const std::string& field) {
  Violation violation;
  const bool in_file = !failure.file().empty() && !IsPathBelowJob(failure.field());
  const bool names_none = failure.field().empty() || (in_file && !field.empty());
  violation.set_field(names_none ? field : failure.field());
  const std::string prefix = violation.field().empty() ? "" : violation.field() + ": ";
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
      absl::StrJoin(violations, "\n  ", [](std::string* out, const Violation& violation) {
        out->append(FormatViolation(violation));
      }));
}

}  // namespace liger
