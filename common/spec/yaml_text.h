#ifndef LIGER_COMMON_SPEC_YAML_TEXT_H_
#define LIGER_COMMON_SPEC_YAML_TEXT_H_

#include <yaml-cpp/yaml.h>

#include <string>
#include <string_view>

#include "google/protobuf/descriptor.h"

namespace liger {

// What is wrong with a text that yaml-cpp does not take, and where: the parser's own words, or that
// the line is indented with a tab.
struct YamlProblem {
  YAML::Mark place;
  std::string message;
};
YamlProblem FindYamlProblem(std::string_view text, const YAML::Exception& error);

// A value that SetField is given. What YAML would leave of a text none or but a part (it takes
// "### Response:" for a comment, "Answer: " for a map) is the text, unless in quotes. Throws
// YAML::Exception.
YAML::Node ValueNode(const google::protobuf::FieldDescriptor& field, const std::string& value);

}  // namespace liger

#endif  // LIGER_COMMON_SPEC_YAML_TEXT_H_
