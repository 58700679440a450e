#include "worker/trainer/data/empty_parts.h"

#include <algorithm>
#include <string>

#include "worker/trainer/data/message_roles.h"

namespace liger::trainer {
namespace {

using nlohmann::ordered_json;

bool IsBlank(const std::string& text) {
  return text.find_first_not_of(" \t\r\n\v\f") == std::string::npos;
}

// Whether no text is in it, at any depth. Numbers and truth values are none; nor is what a part of
// a content ([{type: text, text: ...}]) is called.
bool SaysNothing(const ordered_json& value) {
  if (value.is_string()) return IsBlank(value.get_ref<const std::string&>());
  if (value.is_array()) return std::ranges::all_of(value, SaysNothing);
  if (!value.is_object()) return true;
  return std::ranges::all_of(value.items(), [](const auto& member) {
    return member.key() == "type" || SaysNothing(member.value());
  });
}

// Of content, reasoning, calls of tools, or whatever else the chat template writes.
bool IsEmptyTurn(const ordered_json& message) {
  if (!IsOfAssistant(message)) return false;
  return std::ranges::all_of(message.items(), [](const auto& member) {
    return member.key() == "role" || member.key() == "name" || SaysNothing(member.value());
  });
}

bool IsEmpty(const Passage& answer) {
  if (!IsConversation(answer)) return IsBlank(std::get<std::string>(answer));
  return std::ranges::any_of(std::get<ordered_json>(answer), IsEmptyTurn);
}

}  // namespace

bool LacksAssistant(const Row& row) {
  const auto* text = std::get_if<TextRow>(&row.content);
  if (text == nullptr || !IsConversation(text->text)) return false;
  return std::ranges::none_of(std::get<ordered_json>(text->text), IsOfAssistant);
}

bool HasEmptyAnswer(const Row& row) {
  if (const auto* text = std::get_if<TextRow>(&row.content)) return IsEmpty(text->text);
  if (const auto* one = std::get_if<PromptCompletionRow>(&row.content)) {
    return IsEmpty(one->completion);
  }
  const auto* pair = std::get_if<PreferenceRow>(&row.content);
  return pair != nullptr && (IsEmpty(pair->chosen) || IsEmpty(pair->rejected));
}

bool HasEmptyPrompt(const Row& row) {
  const Passage* prompt = nullptr;
  if (const auto* one = std::get_if<PromptCompletionRow>(&row.content)) prompt = &one->prompt;
  if (const auto* pair = std::get_if<PreferenceRow>(&row.content)) prompt = &pair->prompt;
  return prompt != nullptr && !IsConversation(*prompt) && IsBlank(std::get<std::string>(*prompt));
}

}  // namespace liger::trainer
