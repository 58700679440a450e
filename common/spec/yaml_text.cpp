#include "common/spec/yaml_text.h"

#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace liger {

using google::protobuf::FieldDescriptor;

namespace {

// What the parser says at a line that a tab indents. It says other things at lines that hold a tab
// rightly: within a text of several lines the tab is part of it.
bool MayMeanTab(const std::string& words) {
  return words == YAML::ErrorMsg::TAB_IN_INDENTATION || words == YAML::ErrorMsg::MAP_VALUE ||
         words == YAML::ErrorMsg::MAP_KEY || words == YAML::ErrorMsg::BLOCK_ENTRY;
}

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
  if (error.mark.is_null() || !MayMeanTab(error.msg)) return problem;
  const std::vector<std::string> lines = absl::StrSplit(std::string(text), '\n');
  const auto line = static_cast<size_t>(error.mark.line);
  if (line < lines.size() && IsIndentedWithTab(lines[line])) {
    problem.message = "is indented with a tab, which YAML does not allow; use spaces";
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
