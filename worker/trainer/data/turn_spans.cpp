#include "worker/trainer/data/turn_spans.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "worker/trainer/data/message_roles.h"
#include "worker/trainer/data/text_prefix.h"
#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

using nlohmann::ordered_json;

constexpr char kAction[] =
    "Put {% generation %} and {% endgeneration %} around the assistant's content and its end of "
    "turn in chat_template.jinja, use prompt/completion rows, or give each answer a row of its "
    "own.";

constexpr char kWeight[] = "weight";

bool IsWeightless(const ordered_json& message) {
  return IsOfAssistant(message) && message.contains(kWeight) && message.at(kWeight) == 0;
}

ordered_json First(const ordered_json& messages, size_t count) {
  return ordered_json(messages.begin(), messages.begin() + static_cast<int64_t>(count));
}

// Put behind what a message says last, to be found in what that renders to.
constexpr std::string_view kMark = "LIGER_END_OF_TEXT";
constexpr char kSpace[] = " \t\r\n\v\f";

// What a chat template writes last of a message: the name of its last call of a tool, or its
// content. Null: neither is text.
ordered_json* LastText(ordered_json* message) {
  if (!message->is_object()) return nullptr;
  ordered_json* text = nullptr;
  const auto calls = message->find("tool_calls");
  if (calls != message->end() && calls->is_array() && !calls->empty()) {
    ordered_json* call = &calls->back();
    if (call->is_object() && call->contains("function")) call = &(*call)["function"];
    if (call->is_object() && call->contains("name")) text = &(*call)["name"];
  } else if (message->contains("content")) {
    text = &(*message)["content"];
  }
  return text != nullptr && text->is_string() ? text : nullptr;
}

// The messages with the mark behind that text of message i, whose spaces at the end templates may
// take away and so are left out.
std::optional<ordered_json> WithMark(const ordered_json& messages, size_t i) {
  ordered_json marked = messages;
  ordered_json* text = LastText(&marked[i]);
  if (text == nullptr) return std::nullopt;
  std::string value = text->get<std::string>();
  value.erase(value.find_last_not_of(kSpace) + 1);
  *text = value.append(kMark);
  return marked;
}

// What stands behind the only mark; null: there is none, or more.
std::optional<std::string_view> BehindMark(std::string_view text) {
  const size_t at = text.find(kMark);
  if (at == std::string_view::npos || text.rfind(kMark) != at) return std::nullopt;
  return text.substr(at + kMark.size());
}

// Where a turn begins that has text[0, shared) in common with its prompt, which goes on otherwise:
// behind the last line break, if one follows the message before, whose end `before` is. A turn
// that begins with < has that in common with a prompt of <think>, too.
size_t Start(std::string_view text, size_t before, size_t shared) {
  const size_t line = text.substr(before, shared - before).rfind('\n');
  return line == text.npos ? shared : before + line + 1;
}

class Turns {
 public:
  // `weightless`: the turns of weight 0 are meant, not all.
  Turns(const ChatTemplate& chat_template, const ordered_json& messages,
        const ordered_json& variables, const std::string& eos_token, bool weightless)
      : template_(chat_template),
        messages_(messages),
        variables_(variables),
        eos_(eos_token),
        weightless_(weightless) {
    chat_.text = template_.Render(messages, false, variables);
  }

  RenderedChat Find() {
    for (size_t i = 0; i < messages_.size(); ++i) {
      if (weightless_ ? IsWeightless(messages_[i]) : IsOfAssistant(messages_[i])) Add(i);
    }
    return std::move(chat_);
  }

 private:
  [[noreturn]] void Fail(size_t i, const std::string& what) const {
    const std::string message = "message " + std::to_string(i + 1) + " " + what;
    if (!weightless_) {
      throw DataError(
          "sft.assistant_only_loss: the chat template has no {% generation %} blocks, "
          "and " +
              message,
          kAction);
    }
    throw DataError(
        message + ", so that its tokens, which its weight of 0 leaves out, are not found",
        "Give each answer a row of its own, or remove the weight or the row.")
        .Field(kWeight);
  }

  void Add(size_t i) {
    if (i == 0 && !weightless_) Fail(i, "is the assistant's first, which nothing prompts");
    std::optional<size_t> end = i + 1 == messages_.size() ? chat_.text.size() : EndOf(i + 1);
    if (!end) end = EndByMark(i);
    if (!end) Fail(i, "of the assistant renders otherwise when others follow it");
    chat_.generation_spans.emplace_back(StartOf(i), *end);
  }

  size_t StartOf(size_t i) const {
    if (i == 0) return 0;
    const std::string prompt = template_.Render(First(messages_, i), true, variables_);
    const size_t shared = CommonPrefix(prompt, chat_.text);
    if (shared == prompt.size()) return shared;
    const std::optional<size_t> before = EndOf(i);
    if (before && shared >= *before) return Start(chat_.text, *before, shared);
    const std::optional<size_t> start = StartByMark(i);
    if (!start) Fail(i, "of the assistant stands behind messages that render otherwise without it");
    return *start;
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

  // Of templates that write earlier messages otherwise than the last ones, but end them alike
  // (Qwen3's thoughts, Mistral's system prompt): message i ends with what its own rendering, as
  // the last one, has behind its text.
  std::optional<size_t> EndByMark(size_t i) const {
    const std::optional<size_t> text = EndOfText(i);
    const std::optional<std::string> tail = text ? TailOf(i, false) : std::nullopt;
    if (!tail) return std::nullopt;
    const std::string_view rest = std::string_view(chat_.text).substr(*text);
    if (rest.starts_with(*tail)) return *text + tail->size();
    if (eos_.empty() || !tail->ends_with(eos_)) return std::nullopt;
    const std::string_view part = std::string_view(*tail).substr(0, tail->size() - eos_.size());
    return rest.starts_with(part) ? std::optional(*text + part.size()) : std::nullopt;
  }

  // Turn i begins behind the message before it and what of a generation prompt follows that.
  std::optional<size_t> StartByMark(size_t i) const {
    const std::optional<size_t> before = EndByMark(i - 1);
    if (!before) return std::nullopt;
    const size_t text = *EndOfText(i - 1);
    const std::string prompt = TailOf(i - 1, true).value_or("");
    const size_t shared = text + CommonPrefix(prompt, std::string_view(chat_.text).substr(text));
    if (shared < *before) return std::nullopt;
    return shared == text + prompt.size() ? shared : Start(chat_.text, *before, shared);
  }

  // Where what message i says ends in the whole text; null: that is not rendered as it is.
  std::optional<size_t> EndOfText(size_t i) const {
    const auto marked = WithMark(messages_, i);
    if (!marked) return std::nullopt;
    const std::string text = template_.Render(*marked, false, variables_);
    const std::optional<std::string_view> after = BehindMark(text);
    if (!after) return std::nullopt;
    const std::string_view whole = chat_.text;
    const std::string_view before = std::string_view(text).substr(0, text.find(kMark));
    if (!whole.starts_with(before) || !whole.ends_with(*after) ||
        before.size() + after->size() > whole.size()) {
      return std::nullopt;
    }
    const size_t end = whole.size() - after->size();
    const std::string_view spaces = whole.substr(before.size(), end - before.size());
    return spaces.find_first_not_of(kSpace) == spaces.npos ? std::optional(end) : std::nullopt;
  }

  // What the messages up to i render to behind what message i says.
  std::optional<std::string> TailOf(size_t i, bool add_generation_prompt) const {
    const auto marked = WithMark(First(messages_, i + 1), i);
    if (!marked) return std::nullopt;
    const std::string text = template_.Render(*marked, add_generation_prompt, variables_);
    const std::optional<std::string_view> tail = BehindMark(text);
    return tail ? std::optional(std::string(*tail)) : std::nullopt;
  }

  const ChatTemplate& template_;
  const ordered_json& messages_;
  const ordered_json& variables_;
  const std::string& eos_;
  const bool weightless_;
  RenderedChat chat_;
};

}  // namespace

RenderedChat RenderTurns(const ChatTemplate& chat_template, const ordered_json& messages,
                         const ordered_json& variables, const std::string& eos_token) {
  return Turns(chat_template, messages, variables, eos_token, /*weightless=*/false).Find();
}

bool HasWeightlessTurns(const ordered_json& messages) {
  bool found = false;
  for (size_t i = 0; i < messages.size(); ++i) {
    const ordered_json& message = messages[i];
    if (!IsOfAssistant(message) || !message.contains(kWeight)) continue;
    const ordered_json& weight = message.at(kWeight);
    if (!weight.is_null() && weight != 0 && weight != 1) {
      throw DataError("message " + std::to_string(i + 1) + "'s weight is " + weight.dump() +
                          ", neither 0 (not trained on) nor 1",
                      "Correct the row.")
          .Field(kWeight);
    }
    found |= IsWeightless(message);
  }
  return found;
}

RenderedChat RenderWeightlessTurns(const ChatTemplate& chat_template, const ordered_json& messages,
                                   const ordered_json& variables, const std::string& eos_token) {
  if (!HasWeightlessTurns(messages)) return {};
  return Turns(chat_template, messages, variables, eos_token, /*weightless=*/true).Find();
}

void EraseTurns(const RenderedChat& turns, RenderedChat* chat) {
  std::erase_if(chat->generation_spans, [&](const auto& block) {
    return std::ranges::any_of(turns.generation_spans, [&](const auto& turn) {
      return block.first < turn.second && turn.first < block.second;
    });
  });
}

}  // namespace liger::trainer
