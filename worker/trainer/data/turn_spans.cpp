#include "worker/trainer/data/turn_spans.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "worker/trainer/data/text_prefix.h"
#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

using nlohmann::ordered_json;

constexpr char kAction[] =
    "Put {% generation %} and {% endgeneration %} around the assistant's content and its end of "
    "turn in chat_template.jinja, use prompt/completion rows, or give each answer a row of its "
    "own.";

[[noreturn]] void Fail(size_t message, const std::string& what) {
  throw DataError("sft.assistant_only_loss: the chat template has no {% generation %} blocks, and "
                  "message " + std::to_string(message + 1) + " " + what,
                  kAction);
}

ordered_json First(const ordered_json& messages, size_t count) {
  return ordered_json(messages.begin(), messages.begin() + static_cast<int64_t>(count));
}

class Turns {
 public:
  Turns(const ChatTemplate& chat_template, const ordered_json& messages,
        const ordered_json& variables, const std::string& eos_token)
      : template_(chat_template), messages_(messages), variables_(variables), eos_(eos_token) {
    chat_.text = template_.Render(messages, false, variables);
  }

  RenderedChat Find() {
    for (size_t i = 0; i < messages_.size(); ++i) {
      if (messages_[i].is_object() && messages_[i].value("role", "") == "assistant") Add(i);
    }
    return std::move(chat_);
  }

 private:
  void Add(size_t i) {
    if (i == 0) Fail(i, "is the assistant's first, which nothing prompts");
    const std::optional<size_t> end =
        i + 1 == messages_.size() ? chat_.text.size() : EndOf(i + 1);
    if (!end) Fail(i, "of the assistant renders otherwise when others follow it");
    chat_.generation_spans.emplace_back(StartOf(i), *end);
  }

  size_t StartOf(size_t i) const {
    const std::string prompt = template_.Render(First(messages_, i), true, variables_);
    const size_t shared = CommonPrefix(prompt, chat_.text);
    if (shared == prompt.size()) return shared;
    const std::optional<size_t> before = EndOf(i);
    if (!before || shared < *before) {
      Fail(i, "of the assistant stands behind messages that render otherwise without it");
    }
    return shared;
  }

  // Where the first `count` messages end in the whole text.
  std::optional<size_t> EndOf(size_t count) const {
    const std::string text = template_.Render(First(messages_, count), false, variables_);
    std::string_view part = text;
    if (chat_.text.starts_with(part)) return part.size();
    if (eos_.empty() || !part.ends_with(eos_)) return std::nullopt;
    part.remove_suffix(eos_.size());
    return chat_.text.starts_with(part) ? std::optional(part.size()) : std::nullopt;
  }

  const ChatTemplate& template_;
  const ordered_json& messages_;
  const ordered_json& variables_;
  const std::string& eos_;
  RenderedChat chat_;
};

}  // namespace

RenderedChat RenderTurns(const ChatTemplate& chat_template, const ordered_json& messages,
                         const ordered_json& variables, const std::string& eos_token) {
  return Turns(chat_template, messages, variables, eos_token).Find();
}

}  // namespace liger::trainer
