#include "common/spec/yaml_text.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace liger {

using google::protobuf::FieldDescriptor;

namespace {

// Before a key or an item of a list; within a text of several lines a tab is part of it.
bool IsIndentedWithTab(std::string_view line) {
  const size_t text = line.find_first_not_of(" \t\r");
  if (text == std::string_view::npos || line[text] == '#') return false;
  return line.substr(0, text).find('\t') != std::string_view::npos;
}

// What mostly lies behind the parser's words.
std::string LikelyCause(const std::string& words) {
  if (words == YAML::ErrorMsg::END_OF_MAP) {
    return "; the line is not indented as the other lines of its section are";
  }
  if (words == YAML::ErrorMsg::MAP_VALUE) {
    return "; put a text that holds a colon in quotes, or correct the indentation";
  }
  return "";
}

}  // namespace

YamlProblem FindYamlProblem(std::string_view text, const YAML::Exception& error) {
  YamlProblem problem{error.mark,
                      absl::StrCat("is not valid YAML: ", error.msg, LikelyCause(error.msg))};
  if (error.mark.is_null()) return problem;
  const std::vector<std::string> lines = absl::StrSplit(std::string(text), '\n');
  const int last = std::min(error.mark.line, static_cast<int>(lines.size()) - 1);
  for (int line = last; line >= 0; --line) {
    if (!IsIndentedWithTab(lines[line])) continue;
    problem.place.line = line;
    problem.message = "is indented with a tab, which YAML does not allow; use spaces";
    break;
  }
  return problem;
}

YAML::Node ValueNode(const FieldDescriptor& field, const std::string& value) {
  const bool is_text = field.cpp_type() == FieldDescriptor::CPPTYPE_STRING && !field.is_repeated();
  const std::string stripped(absl::StripAsciiWhitespace(value));
  const bool is_quoted = stripped.starts_with('"') || stripped.starts_with('\'');
  if (!is_text || is_quoted || stripped.empty() || stripped == "~" || stripped == "null") {
    return YAML::Load(value);
  }
  try {
    const YAML::Node node = YAML::Load(value);
    if (node.IsScalar() && node.Scalar() == stripped) return node;
  } catch (const YAML::Exception&) {
  }
  return YAML::Node(value);
}

}  // namespace liger
