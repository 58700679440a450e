#include "worker/trainer/data/row_texts.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace liger::trainer {
namespace {

using nlohmann::ordered_json;

bool IsNameOfPart(const std::string& key) {
  return key == "role" || key == "from" || key == "type";
}

void AppendTexts(const ordered_json& value, std::string* texts) {
  if (value.is_string()) absl::StrAppend(texts, " ", value.get_ref<const std::string&>());
  if (!value.is_structured()) return;
  for (const auto& [key, member] : value.items()) {
    if (value.is_array() || !IsNameOfPart(key)) AppendTexts(member, texts);
  }
}

}  // namespace

bool HasText(const ordered_json& value) {
  if (value.is_string()) {
    return !std::ranges::all_of(value.get_ref<const std::string&>(), absl::ascii_isspace);
  }
  return value.is_structured() && std::ranges::any_of(value.items(), [&](const auto& member) {
           return (value.is_array() || !IsNameOfPart(member.key())) && HasText(member.value());
         });
}

std::string TextOf(const ordered_json& row, const std::vector<std::string>& columns) {
  std::string text;
  for (const std::string& column : columns) {
    if (const auto it = row.find(column); it != row.end()) AppendTexts(*it, &text);
  }
  absl::RemoveExtraAsciiWhitespace(&text);
  return text;
}

bool Repeats(const ordered_json& value, const std::string& text) {
  if (!value.is_structured()) {
    std::string said;
    AppendTexts(value, &said);
    absl::RemoveExtraAsciiWhitespace(&said);
    return text.find(said) != std::string::npos;
  }
  return std::ranges::all_of(value.items(), [&](const auto& member) {
    return (value.is_object() && IsNameOfPart(member.key())) || Repeats(member.value(), text);
  });
}

}  // namespace liger::trainer
