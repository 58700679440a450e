#ifndef LIGER_COMMON_SPEC_YAML_TEXT_H_
#define LIGER_COMMON_SPEC_YAML_TEXT_H_

#include <yaml-cpp/yaml.h>

#include <optional>
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

// The first document of a text, null where there is none, and where a second one begins. Looks at
// no more, since yaml-cpp finds documents without end where a comma stands behind one. Throws
// YAML::Exception, also for such a comma.
struct YamlDocuments {
  YAML::Node first;
  std::optional<YAML::Mark> second;
};
YamlDocuments LoadDocuments(const std::string& text);

// A value that SetField is given. What YAML would leave of a text none or but a part (it takes
// "### Response:" for a comment, "Answer: " for a map) is the text, unless in quotes; of a field of
// several texts, too, but where it is a list. Throws YAML::Exception.
YAML::Node ValueNode(const google::protobuf::FieldDescriptor& field, const std::string& value);

}  // namespace liger

#endif  // LIGER_COMMON_SPEC_YAML_TEXT_H_
