#include <google/protobuf/util/time_util.h>
#include <yaml-cpp/yaml.h>

#include <array>
#include <charconv>
#include <cmath>

#include "common/spec/enum_names.h"
#include "common/spec/yaml_proto.h"

namespace liger {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::util::TimeUtil;

// The shortest decimal that reads back as the same double, as YAML spells it.
std::string FormatDouble(double value) {
  if (std::isnan(value)) return ".nan";
  if (std::isinf(value)) return value > 0 ? ".inf" : "-.inf";
  std::array<char, 32> text;
  return {text.data(), std::to_chars(text.begin(), text.end(), value).ptr};
}

class Writer {
 public:
  explicit Writer(EnumNames enum_names) : enum_names_(enum_names) {}

  void Emit(const Message& message);
  std::string Text() const { return std::string(out_.c_str()) + "\n"; }

 private:
  // One value; index -1 for a field that is not repeated.
  void EmitValue(const Message& message, const FieldDescriptor* field, int index);
  void EmitMap(const Message& message, const FieldDescriptor* field);
  void EmitField(const Message& message, const FieldDescriptor* field);

  const EnumNames enum_names_;
  YAML::Emitter out_;
};

void Writer::EmitValue(const Message& message, const FieldDescriptor* field, int index) {
  const auto* reflection = message.GetReflection();
  const bool repeated = index >= 0;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return Emit(repeated ? reflection->GetRepeatedMessage(message, field, index)
                           : reflection->GetMessage(message, field));
    case FieldDescriptor::CPPTYPE_STRING:
      out_ << YAML::DoubleQuoted
           << (repeated ? reflection->GetRepeatedString(message, field, index)
                        : reflection->GetString(message, field));
      break;
    case FieldDescriptor::CPPTYPE_BOOL:
      out_ << (repeated ? reflection->GetRepeatedBool(message, field, index)
                        : reflection->GetBool(message, field));
      break;
    case FieldDescriptor::CPPTYPE_ENUM: {
      const auto* value = repeated ? reflection->GetRepeatedEnum(message, field, index)
                                   : reflection->GetEnum(message, field);
      out_ << (enum_names_ == EnumNames::kShort ? ShortEnumName(*value) : value->name());
      break;
    }
    case FieldDescriptor::CPPTYPE_DOUBLE:
      out_ << FormatDouble(repeated ? reflection->GetRepeatedDouble(message, field, index)
                                    : reflection->GetDouble(message, field));
      break;
    case FieldDescriptor::CPPTYPE_INT32:
      out_ << (repeated ? reflection->GetRepeatedInt32(message, field, index)
                        : reflection->GetInt32(message, field));
      break;
    case FieldDescriptor::CPPTYPE_INT64:
      out_ << (repeated ? reflection->GetRepeatedInt64(message, field, index)
                        : reflection->GetInt64(message, field));
      break;
    default:
      out_ << YAML::Null;
  }
}

void Writer::EmitMap(const Message& message, const FieldDescriptor* field) {
  const auto* reflection = message.GetReflection();
  out_ << YAML::BeginMap;
  for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
    const Message& entry = reflection->GetRepeatedMessage(message, field, i);
    out_ << YAML::Key;
    EmitValue(entry, field->message_type()->map_key(), -1);
    out_ << YAML::Value;
    EmitValue(entry, field->message_type()->map_value(), -1);
  }
  out_ << YAML::EndMap;
}

void Writer::EmitField(const Message& message, const FieldDescriptor* field) {
  out_ << YAML::Key << field->name() << YAML::Value;
  if (!field->is_repeated()) return EmitValue(message, field, -1);
  if (field->is_map()) return EmitMap(message, field);
  out_ << YAML::BeginSeq;
  const int size = message.GetReflection()->FieldSize(message, field);
  for (int i = 0; i < size; ++i) EmitValue(message, field, i);
  out_ << YAML::EndSeq;
}

void Writer::Emit(const Message& message) {
  if (const auto* time = dynamic_cast<const google::protobuf::Timestamp*>(&message)) {
    out_ << YAML::DoubleQuoted << TimeUtil::ToString(*time);
    return;
  }
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  out_ << YAML::BeginMap;
  for (const FieldDescriptor* field : fields) EmitField(message, field);
  out_ << YAML::EndMap;
}

}  // namespace

std::string ToYaml(const Message& message, EnumNames enum_names) {
  Writer writer(enum_names);
  writer.Emit(message);
  return writer.Text();
}

}  // namespace liger
