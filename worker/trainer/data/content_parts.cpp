#include "worker/trainer/data/content_parts.h"

#include <string>
#include <variant>

#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

using nlohmann::ordered_json;

void Join(Passage* passage) {
  auto* messages = std::get_if<ordered_json>(passage);
  if (messages == nullptr) return;
  for (ordered_json& message : *messages) {
    const auto content = message.find("content");
    if (content == message.end() || !content->is_array()) continue;
    std::string text;
    for (const ordered_json& part : *content) {
      if (&part != &content->front()) text += "\n";
      text += part.value("text", "");
    }
    *content = text;
  }
}

// Null and an empty list are none.
bool HasCalls(const ordered_json& message, const char* field) {
  const auto it = message.find(field);
  return it != message.end() && !it->empty();
}

bool Fill(ordered_json* messages) {
  bool filled = false;
  for (ordered_json& message : *messages) {
    const auto content = message.find("content");
    if (content != message.end() && !content->is_null()) continue;
    if (!HasCalls(message, "tool_calls") && !HasCalls(message, "function_call")) continue;
    message["content"] = "";
    filled = true;
  }
  return filled;
}

}  // namespace

bool ReadsContentParts(const ChatTemplate& chat_template) {
  constexpr char kText[] = "LIGER_PART";
  const ordered_json part = {{"type", "text"}, {"text", kText}};
  const ordered_json message = {{"role", "user"}, {"content", ordered_json::array({part})}};
  try {
    const std::string text = chat_template.Render(ordered_json::array({message}),
                                                  /*add_generation_prompt=*/false);
    // A list that is printed holds its keys, too.
    return text.find(kText) != std::string::npos && text.find("'type'") == std::string::npos &&
           text.find("\"type\"") == std::string::npos;
  } catch (const TrainerError&) {
    return false;
  }
}

void JoinContentParts(Row* row) {
  for (Passage* passage : PassagesOf(*row)) Join(passage);
}

bool FillContents(Row* row) {
  bool filled = false;
  for (Passage* passage : PassagesOf(*row)) {
    if (IsConversation(*passage)) filled |= Fill(&std::get<ordered_json>(*passage));
  }
  return filled;
}

}  // namespace liger::trainer
