#include "worker/trainer/data/tokenize_row.h"

#include <algorithm>
#include <span>
#include <utility>

#include "worker/trainer/data/content_parts.h"
#include "worker/trainer/data/empty_parts.h"
#include "worker/trainer/data/loss_masks.h"
#include "worker/trainer/data/text_prefix.h"
#include "worker/trainer/data/tool_calls.h"
#include "worker/trainer/data/turn_spans.h"
#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

using nlohmann::ordered_json;

int64_t CommonPrefixLength(std::span<const int32_t> a, std::span<const int32_t> b) {
  return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

void IgnoreFirst(int64_t count, Example* example) {
  std::fill_n(example->labels.begin(), count, kIgnoredLabel);
}

// A sequence whose first prompt_length labels are ignored.
Example MaskPrompt(std::vector<int32_t> input_ids, int64_t prompt_length) {
  Example example{std::move(input_ids), {}};
  example.labels = example.input_ids;
  IgnoreFirst(prompt_length, &example);
  return example;
}

// Tokens before the first that is trained on.
int64_t FirstLabel(const Example& sequence) {
  const auto& labels = sequence.labels;
  return std::find_if(labels.begin(), labels.end(),
                      [](int32_t label) { return label != kIgnoredLabel; }) -
         labels.begin();
}

// Nothing predicts a sequence's first token.
bool HasTarget(const Example& sequence) {
  return sequence.labels.size() > 1 &&
         std::any_of(sequence.labels.begin() + 1, sequence.labels.end(),
                     [](int32_t label) { return label != kIgnoredLabel; });
}

ordered_json Concatenated(const ordered_json& prompt, const ordered_json& answer) {
  ordered_json messages = prompt;
  messages.insert(messages.end(), answer.begin(), answer.end());
  return messages;
}

Passage Joined(const Passage& prompt, const Passage& answer) {
  if (!IsConversation(prompt)) {
    return std::get<std::string>(prompt) + std::get<std::string>(answer);
  }
  return Concatenated(std::get<ordered_json>(prompt), std::get<ordered_json>(answer));
}

// Where turns of weight 0 cannot be left out.
void RequireWholeAnswer(const ordered_json& conversation, const ordered_json& answer) {
  if (!HasWeightlessTurns(conversation) || !HasWeightlessTurns(answer)) return;
  throw DataError("a message of the answer has the weight 0, and orpo and cpo train on it whole",
                  "Remove the weight, or the row.")
      .Field("weight");
}

std::string TrimEnd(std::string text) {
  text.erase(text.find_last_not_of(" \t\r\n\v\f") + 1);
  return text;
}

std::vector<int32_t> EncodeTemplate(const Tokenizer& tokenizer, const char* field,
                                    const std::string& text) {
  std::vector<int32_t> ids = tokenizer.Encode(text, false);
  if (!text.empty() && ids.empty()) {
    throw ConfigError(std::string(field) + " '" + text + "' is no token of the model's tokenizer",
                      "Use a text that the rows hold.")
        .Field(field);
  }
  return ids;
}

}  // namespace

struct RowTokenizer::PairText {
  std::string prompt, chosen, rejected;
};

RowTokenizer::RowTokenizer(const Tokenizer& tokenizer, const ChatTemplate* chat_template,
                           const Options& options)
    : tokenizer_(tokenizer), chat_template_(chat_template), options_(options) {
  if (tokenizer.eos_id().has_value()) {
    eos_token_ = tokenizer.IdToToken(*tokenizer.eos_id()).value_or("");
  }
  const SftLossOptions& sft = options.sft;
  if (sft.assistant_only_loss) {
    if (chat_template == nullptr) {
      throw ConfigError("sft.assistant_only_loss needs a chat template, and the model has none",
                        "Use a model with a chat template (an instruct model), or "
                        "prompt/completion rows.")
          .Field("sft.assistant_only_loss");
    }
    marks_generation_ = chat_template->MarksGeneration();
  }
  response_template_ = EncodeTemplate(tokenizer, "sft.response_template", sft.response_template);
  instruction_template_ =
      EncodeTemplate(tokenizer, "sft.instruction_template", sft.instruction_template);
}

TokenizedRow RowTokenizer::Tokenize(const Row& row) const {
  try {
    return TokenizeAsIs(row);
  } catch (const TrainerError&) {
    Row filled = row;
    if (!FillContents(&filled)) throw;
    return TokenizeAsIs(filled);
  }
}

TokenizedRow RowTokenizer::TokenizeAsIs(const Row& row) const {
  const ordered_json& variables = row.template_variables;
  TokenizedRow out;
  if (const auto* text = std::get_if<TextRow>(&row.content)) {
    out = FromText(*text, variables);
  } else if (const auto* completion = std::get_if<PromptCompletionRow>(&row.content)) {
    out = FromPromptCompletion(*completion, variables);
  } else if (const auto* pair = std::get_if<PreferenceRow>(&row.content)) {
    const bool apart =
        options_.method == liger::v1::JobSpec::kOrpo || options_.method == liger::v1::JobSpec::kCpo;
    out = apart ? FromOrpoPair(*pair, variables) : FromDpoPair(*pair, variables);
  } else if (const auto* tokens = std::get_if<Example>(&row.content)) {
    out.sequences = {*tokens};
  } else {
    const auto& token_pair = std::get<PairExample>(row.content);
    out.sequences = {token_pair.chosen, token_pair.rejected};
  }
  out.desirable = row.desirable;
  out.empty_answer = HasEmptyAnswer(row);
  out.empty_prompt = HasEmptyPrompt(row);
  out.no_assistant = LacksAssistant(row);
  out.left_out = FindLeftOut(chat_template_, row);
  Finish(&out);
  return out;
}

TokenizedRow RowTokenizer::FromText(const TextRow& row, const ordered_json& variables) const {
  const Passage passage =
      IsConversation(row.text) ? row.text : Passage(WithEos(std::get<std::string>(row.text)));
  return {.sequences = {EncodeWhole(passage, variables)}};
}

TokenizedRow RowTokenizer::FromPromptCompletion(const PromptCompletionRow& row,
                                                const ordered_json& variables) const {
  const Passage completion = IsConversation(row.completion)
                                 ? row.completion
                                 : Passage(WithEos(std::get<std::string>(row.completion)));
  const Ids prompt = Encode(row.prompt, true, variables);
  Example whole = EncodeWhole(Joined(row.prompt, completion), variables);
  const int64_t shared = CommonPrefixLength(prompt, whole.input_ids);
  // A response template says itself where the loss begins.
  const bool mask = options_.completion_only_loss.value_or(response_template_.empty());
  if (mask) IgnoreFirst(shared, &whole);
  return {.sequences = {std::move(whole)},
          .boundary_merge = shared < static_cast<int64_t>(prompt.size())};
}

TokenizedRow RowTokenizer::FromDpoPair(const PreferenceRow& row,
                                       const ordered_json& variables) const {
  const auto with_eos = [this](const Passage& answer) {
    return IsConversation(answer) ? answer : Passage(WithEos(std::get<std::string>(answer)));
  };
  const Ids prompt = Encode(row.prompt, true, variables);
  Example chosen = EncodeWhole(Joined(row.prompt, with_eos(row.chosen)), variables);
  Example rejected = EncodeWhole(Joined(row.prompt, with_eos(row.rejected)), variables);
  const int64_t shared = std::min(CommonPrefixLength(prompt, chosen.input_ids),
                                  CommonPrefixLength(prompt, rejected.input_ids));
  IgnoreFirst(shared, &chosen);
  IgnoreFirst(shared, &rejected);
  return {.sequences = {std::move(chosen), std::move(rejected)},
          .boundary_merge = shared < static_cast<int64_t>(prompt.size())};
}

TokenizedRow RowTokenizer::FromOrpoPair(const PreferenceRow& row,
                                        const ordered_json& variables) const {
  const PairText text = RenderPair(row, variables);
  TokenizedRow out;
  for (const std::string* answer : {&text.chosen, &text.rejected}) {
    bool merge = false;
    out.sequences.push_back(OrpoSequence(text.prompt, *answer, &merge));
    out.boundary_merge |= merge;
  }
  return out;
}

Example RowTokenizer::OrpoSequence(const std::string& prompt, const std::string& answer,
                                   bool* merge) const {
  const Ids prompt_ids = tokenizer_.Encode(prompt, false);
  Ids whole = tokenizer_.Encode(prompt + answer, false);
  int64_t answer_start = std::min(prompt_ids.size(), whole.size());
  *merge = CommonPrefixLength(prompt_ids, whole) < static_cast<int64_t>(prompt_ids.size());
  // The prompt's last token has merged with the answer's first characters.
  if (*merge) answer_start = std::max<int64_t>(0, answer_start - 1);

  const std::optional<int32_t> eos = tokenizer_.eos_id();
  const bool answer_is_empty = answer_start == static_cast<int64_t>(whole.size());
  if (eos.has_value() && (answer_is_empty || whole.back() != *eos)) whole.push_back(*eos);

  const std::optional<int32_t> bos = tokenizer_.bos_id();
  if (bos.has_value() && (answer_start == 0 || whole.front() != *bos)) {
    whole.insert(whole.begin(), *bos);
    ++answer_start;
  }
  return MaskPrompt(std::move(whole), answer_start);
}

RowTokenizer::PairText RowTokenizer::RenderPair(const PreferenceRow& row,
                                                const ordered_json& variables) const {
  if (!IsConversation(row.prompt)) {
    return {std::get<std::string>(row.prompt), std::get<std::string>(row.chosen),
            std::get<std::string>(row.rejected)};
  }
  const auto& messages = std::get<ordered_json>(row.prompt);
  const auto render_with = [&](const Passage& answer) {
    const auto& said = std::get<ordered_json>(answer);
    const ordered_json conversation = Concatenated(messages, said);
    RequireWholeAnswer(conversation, said);
    return Render(conversation, false, variables);
  };
  const std::string chosen = render_with(row.chosen);
  const std::string rejected = render_with(row.rejected);
  std::string prompt = RenderPrompt(messages, variables);
  // Templates that end the prompt with more than the conversation goes on with
  // (DeepSeek-R1's <think>): the prompt is what all three begin with.
  prompt.resize(CommonPrefix(prompt, chosen));
  prompt.resize(CommonPrefix(prompt, rejected));
  return {prompt, chosen.substr(prompt.size()), rejected.substr(prompt.size())};
}

std::string RowTokenizer::RenderPrompt(const ordered_json& messages,
                                       const ordered_json& variables) const {
  const std::string role = messages.back().value("role", "");
  if (role == "user" || role == "tool") return Render(messages, true, variables);
  const auto content = messages.back().find("content");
  if (role != "assistant" || content == messages.back().end() || !content->is_string()) {
    throw DataError(
        "the prompt ends with a message of role " + role + ", which no answer can follow",
        "End the prompt with a user or tool message, or with an assistant's text to "
        "continue.");
  }
  // An answer that the completion continues (transformers'
  // continue_final_message): render with a mark behind it and cut there.
  static constexpr char kMark[] = "CONTINUE_FINAL_MESSAGE_TAG ";
  static constexpr char kTrimmedMark[] = "CONTINUE_FINAL_MESSAGE_TAG";
  ordered_json marked = messages;
  marked.back()["content"] = content->get<std::string>() + kMark;
  const std::string rendered = Render(marked, false, variables);
  const size_t at = rendered.rfind(kTrimmedMark);
  if (at == std::string::npos) {
    throw DataError("the chat template drops the prompt's last message, which the answers continue",
                    "End the prompt with a user message.");
  }
  const std::string prompt = rendered.substr(0, at);
  return rendered.compare(at, sizeof(kMark) - 1, kMark) == 0 ? prompt : TrimEnd(prompt);
}

RowTokenizer::Ids RowTokenizer::Encode(const Passage& passage, bool add_generation_prompt,
                                       const ordered_json& variables) const {
  if (!IsConversation(passage)) return tokenizer_.Encode(std::get<std::string>(passage), true);
  // The template writes the special tokens itself.
  return tokenizer_.Encode(
      Render(std::get<ordered_json>(passage), add_generation_prompt, variables), false);
}

Example RowTokenizer::EncodeWhole(const Passage& passage, const ordered_json& variables) const {
  if (options_.sft.assistant_only_loss) return EncodeTurns(passage, variables);
  Example example = MaskPrompt(Encode(passage, false, variables), 0);
  if (const auto* messages = std::get_if<ordered_json>(&passage)) {
    IgnoreGenerated(tokenizer_,
                    RenderWeightlessTurns(*chat_template_, *messages, variables, eos_token_),
                    &example);
  }
  return example;
}

Example RowTokenizer::EncodeTurns(const Passage& passage, const ordered_json& variables) const {
  if (!IsConversation(passage)) {
    throw DataError("sft.assistant_only_loss is for conversations, and the row is text",
                    "Use messages, or set sft.assistant_only_loss: false.");
  }
  const auto& messages = std::get<ordered_json>(passage);
  RenderedChat chat = marks_generation_
                          ? chat_template_->RenderWithSpans(messages, false, variables)
                          : RenderTurns(*chat_template_, messages, variables, eos_token_);
  EraseTurns(RenderWeightlessTurns(*chat_template_, messages, variables, eos_token_), &chat);
  RequireRenderedCalls(*chat_template_, messages, false, variables);
  Example example = MaskPrompt(tokenizer_.Encode(chat.text, false), 0);
  KeepGenerated(tokenizer_, chat, &example);
  return example;
}

std::string RowTokenizer::Render(const ordered_json& messages, bool add_generation_prompt,
                                 const ordered_json& variables) const {
  if (chat_template_ == nullptr) {
    throw DataError("the row is a conversation, and the model has no chat template",
                    "Use a model with a chat template (an instruct model), or give plain text.");
  }
  std::string text = chat_template_->Render(messages, add_generation_prompt, variables);
  RequireRenderedCalls(*chat_template_, messages, add_generation_prompt, variables);
  return text;
}

std::string RowTokenizer::WithEos(const std::string& text) const {
  return eos_token_.empty() || text.ends_with(eos_token_) ? text : text + eos_token_;
}

void RowTokenizer::Truncate(Example* sequence) const {
  const int64_t excess = static_cast<int64_t>(sequence->input_ids.size()) - options_.max_length;
  for (TokenIds* ids : {&sequence->input_ids, &sequence->labels}) {
    std::vector<int32_t>& row = ids->vector();
    const auto cut = options_.keep_end ? row.begin() : row.end() - excess;
    row.erase(cut, cut + excess);
  }
  // Nothing is left to predict the first token from, and an answer needs a prompt.
  if (options_.keep_end) sequence->labels.front() = kIgnoredLabel;
}

std::vector<int32_t> RowTokenizer::CutAnswer(const Example& sequence) const {
  const int64_t length = std::ssize(sequence.labels), most = options_.max_length;
  if (options_.method != liger::v1::JobSpec::kKto || options_.keep_end || length <= most) return {};
  const int64_t start = FirstLabel(sequence);
  const auto& ids = sequence.input_ids;
  return {ids.begin() + most, ids.begin() + std::min(length, start + most)};
}

TokenizedRow::PromptCut RowTokenizer::CutOfPrompt(const Example& whole, const Example& left) const {
  using PromptCut = TokenizedRow::PromptCut;
  if (!options_.keep_end) return PromptCut::kLess;
  const int64_t cut = std::ssize(whole.labels) - std::ssize(left.labels);
  const auto is_trained = [](int32_t label) { return label != kIgnoredLabel; };
  // The first answer of which something is left. No cut is in those behind it and their prompts.
  const auto& kept = left.labels;
  const auto begin = std::ranges::find_if(kept, is_trained);
  const auto end = std::find(begin, kept.end(), kIgnoredLabel);
  if (2 * (end - begin) <= std::ranges::count_if(kept, is_trained)) return PromptCut::kLess;
  // Its prompt: what lies between it and the answer before.
  const auto& labels = whole.labels;
  int64_t answer = cut + (begin - kept.begin());
  while (answer > 0 && is_trained(labels[answer - 1])) --answer;
  int64_t prompt = answer;
  while (prompt > 0 && !is_trained(labels[prompt - 1])) --prompt;
  const int64_t rest = std::max<int64_t>(0, answer - std::max(prompt, cut));
  if (2 * rest >= answer - prompt) return PromptCut::kLess;
  return rest > 0 ? PromptCut::kMost : PromptCut::kAll;
}

TokenizedRow::NoResponse RowTokenizer::WhyNoResponse(const Ids& whole) const {
  using NoResponse = TokenizedRow::NoResponse;
  if (!std::ranges::search(whole, response_template_).empty()) return NoResponse::kCutOff;
  const bool has_text =
      tokenizer_.Decode(whole, false).find(options_.sft.response_template) != std::string::npos;
  return has_text ? NoResponse::kOtherTokens : NoResponse::kOtherText;
}

void RowTokenizer::Finish(TokenizedRow* row) const {
  for (Example& sequence : row->sequences) {
    row->cut_answer = CutAnswer(sequence);
    row->full_length = std::max<int64_t>(row->full_length, std::ssize(sequence.input_ids));
    const bool is_cut = std::ssize(sequence.input_ids) > options_.max_length;
    Example whole = is_cut ? sequence : Example();
    if (is_cut) Truncate(&sequence);
    row->truncated |= is_cut;
    if (!response_template_.empty()) {
      if (is_cut) KeepResponses(response_template_, instruction_template_, &whole);
      if (!KeepResponses(response_template_, instruction_template_, &sequence)) {
        row->no_response = WhyNoResponse((is_cut ? whole : sequence).input_ids.vector());
      }
    }
    const bool has_target = HasTarget(sequence);
    row->nothing_to_train |= !has_target;
    if (!is_cut) continue;
    if (has_target) row->prompt_cut = std::max(row->prompt_cut, CutOfPrompt(whole, sequence));
    // An empty answer has its end alone, which a larger max_length does not make worth training on.
    const bool has_answer = options_.sft.assistant_only_loss || !row->empty_answer;
    row->prompt_fills |= !has_target && has_answer && HasTarget(whole);
  }
}

}  // namespace liger::trainer
