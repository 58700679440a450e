#include "common/utf8.h"

#include <algorithm>
#include <vector>

namespace liger {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// Length of the well-formed UTF-8 sequence that `s` starts with (Unicode 15,
// table 3-7); 0 when it starts with none.
size_t SequenceLength(std::string_view s) {
  const auto byte = [&](size_t i) -> unsigned {
    return i < s.size() ? static_cast<unsigned char>(s[i]) : 0u;
  };
  const auto continues = [&](size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return continues(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const bool overlong = lead == 0xE0 && byte(1) < 0xA0;
    const bool surrogate = lead == 0xED && byte(1) > 0x9F;
    return continues(1) && continues(2) && !overlong && !surrogate ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const bool overlong = lead == 0xF0 && byte(1) < 0x90;
    const bool beyond = lead == 0xF4 && byte(1) > 0x8F;
    return continues(1) && continues(2) && continues(3) && !overlong && !beyond ? 4 : 0;
  }
  return 0;
}

void MakeFieldValid(const FieldDescriptor* field, Message* message) {
  const google::protobuf::Reflection& reflection = *message->GetReflection();
  if (!field->is_repeated()) {
    std::string value = reflection.GetString(*message, field);
    reflection.SetString(message, field, ToValidUtf8(value));
    return;
  }
  for (int i = 0; i < reflection.FieldSize(*message, field); ++i) {
    std::string value = reflection.GetRepeatedString(*message, field, i);
    reflection.SetRepeatedString(message, field, i, ToValidUtf8(value));
  }
}

}  // namespace

std::string ToValidUtf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  while (!bytes.empty()) {
    const size_t length = SequenceLength(bytes);
    out.append(length == 0 ? std::string_view("\xEF\xBF\xBD") : bytes.substr(0, length));
    bytes.remove_prefix(std::max<size_t>(1, length));
  }
  return out;
}

void MakeStringsValid(Message* message) {
  const google::protobuf::Reflection& reflection = *message->GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(*message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (field->type() == FieldDescriptor::TYPE_STRING) MakeFieldValid(field, message);
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
    if (!field->is_repeated()) {
      MakeStringsValid(reflection.MutableMessage(message, field));
      continue;
    }
    for (int i = 0; i < reflection.FieldSize(*message, field); ++i) {
      MakeStringsValid(reflection.MutableRepeatedMessage(message, field, i));
    }
  }
}

}  // namespace liger
