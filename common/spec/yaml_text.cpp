#include "common/spec/yaml_text.h"

#include <yaml-cpp/eventhandler.h>

#include <sstream>
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

// What mostly lies behind the parser's words, at that character.
std::string LikelyCause(const std::string& words, char at) {
  if (words == YAML::ErrorMsg::END_OF_MAP) {
    return "; the line is not indented as the other lines of its section are";
  }
  if (words == YAML::ErrorMsg::MAP_VALUE) {
    return "; put a text that holds a colon in quotes, or correct the indentation";
  }
  constexpr char kInQuotes[] = "put a text inside that holds one of ? , [ ] { } in quotes";
  if (words == YAML::ErrorMsg::END_OF_SEQ_FLOW || words == YAML::ErrorMsg::END_OF_MAP_FLOW) {
    return absl::StrCat("; close the '[' or '{', and ", kInQuotes);
  }
  if (words != YAML::ErrorMsg::UNKNOWN_TOKEN) return "";
  if (at == '?') return absl::StrCat("; within [ ] or { } ", kInQuotes);
  constexpr std::string_view kReserved = "@`%";
  if (kReserved.find(at) == std::string_view::npos) return "";
  return absl::StrCat("; put a text that begins with ", std::string(1, at), " in quotes");
}

constexpr char kLeftComma[] = "a comma is left over";

// Where documents begin, and whether the last one is empty.
struct DocumentStarts : YAML::EventHandler {
  std::vector<YAML::Mark> starts;
  bool empty = true;

  void OnDocumentStart(const YAML::Mark& mark) override {
    starts.push_back(mark);
    empty = true;
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override { empty = false; }
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {
    empty = false;
  }
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    empty = false;
  }
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    empty = false;
  }
  void OnMapEnd() override {}
};

// Of texts, one that only begins as a list does ("[INST] hello") is a text.
YAML::Node ListNode(const std::string& value, bool of_texts) {
  try {
    const YamlDocuments documents = LoadDocuments(value);
    return of_texts && documents.second ? YAML::Node(value) : documents.first;
  } catch (const YAML::Exception& error) {
    const size_t end = value.find(']');
    const bool behind = end != value.npos && error.mark.pos > static_cast<int>(end);
    if (of_texts && behind && error.msg != kLeftComma) return YAML::Node(value);
    throw YAML::Exception(
        error.mark, absl::StrCat("is no list: ", error.msg,
                                 "; write it as '[a, b]', in quotes for the shell, and a text "
                                 "that begins so in quotes of its own"));
  }
}

}  // namespace

YamlProblem FindYamlProblem(std::string_view text, const YAML::Exception& error) {
  const std::vector<std::string> lines = absl::StrSplit(std::string(text), '\n');
  std::string line, rest;
  if (!error.mark.is_null() && error.mark.line < std::ssize(lines)) {
    line = lines[error.mark.line];
    if (error.mark.column < std::ssize(line)) rest = line.substr(error.mark.column);
  }
  YamlProblem problem{error.mark,
                      absl::StrCat("is not valid YAML: ", error.msg,
                                   LikelyCause(error.msg, rest.empty() ? '\0' : rest.front()))};
  if (MayMeanTab(error.msg) && IsIndentedWithTab(line)) {
    problem.message = "is indented with a tab, which YAML does not allow; use spaces";
  }
  return problem;
}

YamlDocuments LoadDocuments(const std::string& text) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  DocumentStarts seen;
  while (seen.starts.size() < 2 && parser.HandleNextDocument(seen)) {
  }
  YamlDocuments documents{.first = YAML::Load(text), .second = {}};
  if (seen.starts.size() < 2) return documents;
  documents.second = seen.starts[1];
  const size_t mark_size = text.starts_with("\xEF\xBB\xBF") ? 3 : 0;
  const size_t place = mark_size + static_cast<size_t>(documents.second->pos);
  if (seen.empty && place < text.size() && text[place] == ',') {
    throw YAML::ParserException(*documents.second, kLeftComma);
  }
  return documents;
}

YAML::Node ValueNode(const FieldDescriptor& field, const std::string& value) {
  const bool is_text = field.cpp_type() == FieldDescriptor::CPPTYPE_STRING;
  const std::string stripped(absl::StripAsciiWhitespace(value));
  const bool is_quoted = stripped.starts_with('"') || stripped.starts_with('\'');
  if (field.is_repeated() && (stripped.starts_with('[') || stripped.starts_with("- "))) {
    return ListNode(value, is_text);
  }
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
