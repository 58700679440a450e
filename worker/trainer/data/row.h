#ifndef LIGER_WORKER_TRAINER_DATA_ROW_H_
#define LIGER_WORKER_TRAINER_DATA_ROW_H_

#include <nlohmann/json.hpp>
#include <string>
#include <variant>

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

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_ROW_H_
