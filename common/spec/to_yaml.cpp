#include <yaml-cpp/yaml.h>

#include "absl/strings/str_format.h"
#include "common/spec/yaml_proto.h"

namespace liger {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

void EmitMessage(const Message& message, YAML::Emitter* out);

// The shortest decimal that reads back as the same double.
std::string FormatDouble(double value) {
  for (int digits = 1; digits < 17; ++digits) {
    const std::string text = absl::StrFormat("%.*g", digits, value);
    if (std::stod(text) == value) return text;
  }
  return absl::StrFormat("%.17g", value);
}

// One value; index -1 for a field that is not repeated.
void EmitValue(const Message& message, const FieldDescriptor* field, int index,
               YAML::Emitter* out) {
  const auto* reflection = message.GetReflection();
  const bool repeated = index >= 0;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_MESSAGE:
      EmitMessage(repeated ? reflection->GetRepeatedMessage(message, field, index)
                           : reflection->GetMessage(message, field),
                  out);
      break;
    case FieldDescriptor::CPPTYPE_STRING:
      *out << YAML::DoubleQuoted
           << (repeated ? reflection->GetRepeatedString(message, field, index)
                        : reflection->GetString(message, field));
      break;
    case FieldDescriptor::CPPTYPE_BOOL:
      *out << (repeated ? reflection->GetRepeatedBool(message, field, index)
                        : reflection->GetBool(message, field));
      break;
    case FieldDescriptor::CPPTYPE_ENUM:
      *out << ShortEnumName(*(repeated ? reflection->GetRepeatedEnum(message, field, index)
                                       : reflection->GetEnum(message, field)));
      break;
    case FieldDescriptor::CPPTYPE_DOUBLE:
      *out << FormatDouble(repeated ? reflection->GetRepeatedDouble(message, field, index)
                                    : reflection->GetDouble(message, field));
      break;
    case FieldDescriptor::CPPTYPE_INT32:
      *out << (repeated ? reflection->GetRepeatedInt32(message, field, index)
                        : reflection->GetInt32(message, field));
      break;
    case FieldDescriptor::CPPTYPE_INT64:
      *out << (repeated ? reflection->GetRepeatedInt64(message, field, index)
                        : reflection->GetInt64(message, field));
      break;
    default:
      *out << YAML::Null;
  }
}

void EmitField(const Message& message, const FieldDescriptor* field, YAML::Emitter* out) {
  *out << YAML::Key << field->name() << YAML::Value;
  if (!field->is_repeated()) return EmitValue(message, field, -1, out);
  const auto* reflection = message.GetReflection();
  const int size = reflection->FieldSize(message, field);
  if (field->is_map()) {
    *out << YAML::BeginMap;
    for (int i = 0; i < size; ++i) {
      const Message& entry = reflection->GetRepeatedMessage(message, field, i);
      *out << YAML::Key;
      EmitValue(entry, field->message_type()->map_key(), -1, out);
      *out << YAML::Value;
      EmitValue(entry, field->message_type()->map_value(), -1, out);
    }
    *out << YAML::EndMap;
    return;
  }
  *out << YAML::BeginSeq;
  for (int i = 0; i < size; ++i) EmitValue(message, field, i, out);
  *out << YAML::EndSeq;
}

void EmitMessage(const Message& message, YAML::Emitter* out) {
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  *out << YAML::BeginMap;
  for (const FieldDescriptor* field : fields) EmitField(message, field, out);
  *out << YAML::EndMap;
}

}  // namespace

std::string ToYaml(const Message& message) {
  YAML::Emitter out;
  EmitMessage(message, &out);
  return std::string(out.c_str()) + "\n";
}

}  // namespace liger
