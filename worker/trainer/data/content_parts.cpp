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
  if (auto* text = std::get_if<TextRow>(&row->content)) {
    Join(&text->text);
  } else if (auto* completion = std::get_if<PromptCompletionRow>(&row->content)) {
    Join(&completion->prompt);
    Join(&completion->completion);
  } else if (auto* pair = std::get_if<PreferenceRow>(&row->content)) {
    Join(&pair->prompt);
    Join(&pair->chosen);
    Join(&pair->rejected);
  }
}

}  // namespace liger::trainer
