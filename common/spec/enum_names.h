#ifndef LIGER_COMMON_SPEC_ENUM_NAMES_H_
#define LIGER_COMMON_SPEC_ENUM_NAMES_H_

#include <google/protobuf/descriptor.h>

#include <string>
#include <string_view>
#include <vector>

namespace liger {

// How job files name enum values: without their type's prefix ("LIGER" for KERNEL_MODE_LIGER).
std::string ShortEnumName(const google::protobuf::EnumValueDescriptor& value);

// By that name or by the whole one, in letters of any case; nullptr: there is none.
const google::protobuf::EnumValueDescriptor* FindEnumValue(
    const google::protobuf::EnumDescriptor& type, std::string_view text);

// The names that may be given, in order of declaration.
std::vector<std::string> EnumChoices(const google::protobuf::EnumDescriptor& type);

}  // namespace liger

#endif  // LIGER_COMMON_SPEC_ENUM_NAMES_H_
