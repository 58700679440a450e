#include "common/spec/enum_names.h"

#include "absl/strings/ascii.h"

namespace liger {

using google::protobuf::EnumDescriptor;
using google::protobuf::EnumValueDescriptor;

namespace {

std::string EnumPrefix(const EnumDescriptor& type) {
  // PRECISION for Precision, KERNEL_MODE for KernelMode, DTYPE for DType: the
  // prefix is what the zero value has before its last word(s).
  const std::string& zero = type.value(0)->name();
  for (const char* suffix : {"UNSPECIFIED", "AUTO"}) {
    const size_t at = zero.rfind(suffix);
    if (at != std::string::npos) return zero.substr(0, at);
  }
  return "";
}

}  // namespace

std::string ShortEnumName(const EnumValueDescriptor& value) {
  const std::string prefix = EnumPrefix(*value.type());
  return value.name().rfind(prefix, 0) == 0 ? value.name().substr(prefix.size()) : value.name();
}

const EnumValueDescriptor* FindEnumValue(const EnumDescriptor& type, std::string_view text) {
  const std::string upper = absl::AsciiStrToUpper(std::string(text));
  const std::string prefix = EnumPrefix(type);
  for (int i = 0; i < type.value_count(); ++i) {
    const std::string& name = type.value(i)->name();
    if (name == upper || name == prefix + upper) return type.value(i);
  }
  return nullptr;
}

std::vector<std::string> EnumChoices(const EnumDescriptor& type) {
  std::vector<std::string> choices;
  for (int i = 0; i < type.value_count(); ++i) {
    const std::string name = ShortEnumName(*type.value(i));
    if (name != "UNSPECIFIED") choices.push_back(name);
  }
  return choices;
}

}  // namespace liger
