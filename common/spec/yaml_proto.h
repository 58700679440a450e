#ifndef LIGER_COMMON_SPEC_YAML_PROTO_H_
#define LIGER_COMMON_SPEC_YAML_PROTO_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "google/protobuf/message.h"
#include "liger/v1/job.pb.h"

namespace liger {

// YAML (and so JSON) to a proto message by its descriptor, with the field
// names of proto JSON (snake_case or camelCase).
//
// - Enum values are accepted without their prefix, in any case: `kernels:
//   {mode: liger}`, as `mode: KERNEL_MODE_LIGER`.
// - A scalar where a message is expected sets its first field when that is a
//   string or an enum: `model: llama3-8b`, `kernels: BASELINE`.
// - Times are RFC 3339 strings, as in proto JSON; .inf and .nan are numbers.
// - A message key without a value is an empty message: `sft:`.
//
// Every mistake found is returned, with field path, file and line: unknown
// fields (with the nearest known name), duplicate keys, wrong types, integers
// out of range, unknown enum values, two members of a oneof. Empty: ok.
std::vector<liger::v1::Violation> ParseYaml(std::string_view text, const std::string& file_name,
                                            google::protobuf::Message* message);

// Reads and parses a file. The status of a failure lists every violation, one a
// line, as "file:line: field: message".
absl::Status LoadYaml(const std::string& path, google::protobuf::Message* message);

// Sets one field from text: SetField(&spec, "training.learning_rate", "1e-5").
// The value is YAML, so lists and messages work too; that of a text may be the text as it is, where
// YAML would take it for a comment or a map ("### Response:"), and quotes are YAML's. A path
// through a member of a oneof whose other member is set is refused.
absl::Status SetField(google::protobuf::Message* message, std::string_view path,
                      std::string_view value);

// Without their prefix, as people write job files, or as proto JSON has them.
enum class EnumNames { kShort, kFull };

// The message as YAML, fields in order of declaration; times as in proto JSON
// ("2026-01-31T12:00:00Z"). ParseYaml reads it back.
std::string ToYaml(const google::protobuf::Message& message,
                   EnumNames enum_names = EnumNames::kShort);

}  // namespace liger

#endif  // LIGER_COMMON_SPEC_YAML_PROTO_H_
