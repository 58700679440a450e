#ifndef LIGER_COMMON_SPEC_VIOLATIONS_H_
#define LIGER_COMMON_SPEC_VIOLATIONS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "liger/v1/job.pb.h"

namespace liger {

// "file:line: field: message", leaving out what is not known, and a dataset's or
// model's file that the message names.
std::string FormatViolation(const liger::v1::Violation& violation);

// A failure says all in its message, which often begins with the field; a
// violation's message is about its field. With the action behind it. `field` is blamed where the
// failure names none, or a place within its file (a column, a key of config.json), which is none
// of a job.
liger::v1::Violation ToViolation(const liger::v1::Failure& failure, const std::string& field = "");

// "cause; what to do": the action goes on in lower case.
std::string WithAction(const std::string& message, const std::string& action);

// INVALID_ARGUMENT with a line for each, those behind the first indented, or OK.
absl::Status ViolationsToStatus(const std::vector<liger::v1::Violation>& violations);

}  // namespace liger

#endif  // LIGER_COMMON_SPEC_VIOLATIONS_H_
