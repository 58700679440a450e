#ifndef LIGER_WORKER_TRAINER_DATA_ROW_H_
#define LIGER_WORKER_TRAINER_DATA_ROW_H_

#include <nlohmann/json.hpp>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include "worker/trainer/data/example.h"

namespace liger::trainer {

// A row in the one shape that tokenisation knows, whatever its file's format.

// Plain text, or a list of messages {role, content, ...}.
using Passage = std::variant<std::string, nlohmann::ordered_json>;

inline bool IsConversation(const Passage& passage) {
  return std::holds_alternative<nlohmann::ordered_json>(passage);
}

// Language modelling: a text or a whole conversation.
struct TextRow {
  Passage text;
};

// Both parts are text, or both are messages.
struct PromptCompletionRow {
  Passage prompt;
  Passage completion;
};

// All three are text, or all three are messages.
struct PreferenceRow {
  Passage prompt;
  Passage chosen;
  Passage rejected;
};

struct Row {
  // Example and PairExample: rows that came tokenised.
  std::variant<TextRow, PromptCompletionRow, PreferenceRow, Example, PairExample> content;
  // Variables for the chat template besides the messages: tools and what the
  // row's chat_template_kwargs names. An object.
  nlohmann::ordered_json template_variables = nlohmann::ordered_json::object();
  // KTO's label.
  bool desirable = false;
};

// The row's passages, the prompt and the chosen answer first; none, where it came tokenised.
// `R`: Row or const Row.
template <typename R>
auto PassagesOf(R& row) {
  using Pointer = std::conditional_t<std::is_const_v<R>, const Passage*, Passage*>;
  std::vector<Pointer> passages;
  if (auto* text = std::get_if<TextRow>(&row.content)) {
    passages = {&text->text};
  } else if (auto* completion = std::get_if<PromptCompletionRow>(&row.content)) {
    passages = {&completion->prompt, &completion->completion};
  } else if (auto* pair = std::get_if<PreferenceRow>(&row.content)) {
    passages = {&pair->prompt, &pair->chosen, &pair->rejected};
  }
  return passages;
}

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_ROW_H_
