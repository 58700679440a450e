#ifndef LIGER_WORKER_TRAINER_DATA_TOKENIZE_ROW_H_
#define LIGER_WORKER_TRAINER_DATA_TOKENIZE_ROW_H_

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "liger/v1/job_spec.pb.h"
#include "worker/trainer/data/example.h"
#include "worker/trainer/data/left_out.h"
#include "worker/trainer/data/row.h"
#include "worker/trainer/data/sft_loss_options.h"
#include "worker/trainer/text/chat_template.h"
#include "worker/trainer/text/tokenizer.h"

namespace liger::trainer {

struct TokenizedRow {
  // One sequence, or chosen and rejected, cut to max_length.
  std::vector<Example> sequences;
  // Tokens of the longest of them before that.
  int64_t full_length = 0;
  bool truncated = false;
  // The tokenised prompt is not a prefix of the tokenised prompt + answer.
  bool boundary_merge = false;
  // HasEmptyAnswer and HasEmptyPrompt of the row.
  bool empty_answer = false;
  bool empty_prompt = false;
  bool no_assistant = false;  // LacksAssistant
  LeftOut left_out;
  // A sequence has no label that anything predicts: the row must be dropped.
  bool nothing_to_train = false;
  bool prompt_fills = false;  // ... since it was cut to max_length: it has an answer behind that
  bool desirable = false;     // KTO's label
  // KTO: what was cut off the end of the answer, but for what lies max_length behind
  // the answer's start, where no prompt puts it within a sequence.
  std::vector<int32_t> cut_answer;
  // More than half of the tokens left to train on answer a prompt that keep_end cut more than half
  // of off, or all. An answer's prompt are the untrained tokens between it and the answer before.
  enum class PromptCut : uint8_t { kLess, kMost, kAll };
  PromptCut prompt_cut = PromptCut::kLess;
  // Why sft.response_template is not in the row (nothing_to_train is set, too): max_length cut it
  // off, its text is there in other tokens, or not even that.
  enum class NoResponse : uint8_t { kIsThere, kCutOff, kOtherTokens, kOtherText };
  NoResponse no_response = NoResponse::kIsThere;
  uint64_t digest = 0;  // of all that is trained on (AddToDigest), by the loader
};

// Tokenises rows as the trainers of TRL 1.16.0 do, each in its own way:
//
//          conversation                       text
//   SFT    rendered; no EOS, no BOS added     EOS appended as text unless there;
//                                             the tokenizer's special tokens
//   DPO    as SFT                             as SFT, on both answers
//   KTO    as SFT                             as SFT
//   ORPO,  rendered as text, then as text     ids of prompt and of prompt + answer
//   CPO                                       without special tokens; BOS put before,
//                                             EOS behind, each unless there
//
// Where the answer starts: SFT and DPO, where the ids of the prompt (rendered
// with its generation prompt) and those of prompt + answer diverge; ORPO
// (trl.experimental.orpo, tokenize_row), after the prompt's ids, or one earlier
// when they are no prefix. Truncation keeps the first max_length tokens, or with
// keep_end the last ones.
//
// Not as TRL: ORPO does not cut a prompt longer than max_length and keeps rows
// with an empty answer, whose mean log-probability is 0/0: here such rows have
// nothing to train on. ORPO refuses pairs whose prompts differ in more than
// their last token; here each sequence keeps its own prompt, which needs no
// such rule. A sequence of one token has nothing to train on either. An assistant's turn whose
// weight is 0 (OpenAI's) has no loss, whatever else has. A call of a tool without a content has an
// empty one where the chat template cannot do without; transformers fails there.
//
// Immutable; Tokenize may be called from any thread.
class RowTokenizer {
 public:
  static constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

  struct Options {
    liger::v1::JobSpec::MethodCase method = liger::v1::JobSpec::kSft;
    std::optional<bool> completion_only_loss;  // see LoadOptions
    int64_t max_length = 1024;
    bool keep_end = false;  // of rows longer than that
    SftLossOptions sft;
  };

  // chat_template may be null. Both must outlive this. Throws ConfigError when
  // assistant_only_loss has no chat template, or a template of the loss is no token.
  RowTokenizer(const Tokenizer& tokenizer, const ChatTemplate* chat_template,
               const Options& options);

  // Throws TrainerError (DATA) without a row when the row is a conversation and
  // the model has no chat template, or when the template refuses it or leaves out a call of a tool.
  TokenizedRow Tokenize(const Row& row) const;

 private:
  using Ids = std::vector<int32_t>;

  TokenizedRow TokenizeAsIs(const Row& row) const;
  TokenizedRow FromText(const TextRow& row, const nlohmann::ordered_json& variables) const;
  TokenizedRow FromPromptCompletion(const PromptCompletionRow& row,
                                    const nlohmann::ordered_json& variables) const;
  TokenizedRow FromDpoPair(const PreferenceRow& row, const nlohmann::ordered_json& variables) const;
  TokenizedRow FromOrpoPair(const PreferenceRow& row,
                            const nlohmann::ordered_json& variables) const;
  Example OrpoSequence(const std::string& prompt, const std::string& answer, bool* merge) const;

  // The ids of a text, or of a conversation rendered by the chat template.
  Ids Encode(const Passage& passage, bool add_generation_prompt,
             const nlohmann::ordered_json& variables) const;
  std::string Render(const nlohmann::ordered_json& messages, bool add_generation_prompt,
                     const nlohmann::ordered_json& variables) const;
  // The row's three parts as text, conversations rendered (TRL's
  // apply_chat_template).
  struct PairText;
  PairText RenderPair(const PreferenceRow& row, const nlohmann::ordered_json& variables) const;
  std::string RenderPrompt(const nlohmann::ordered_json& messages,
                           const nlohmann::ordered_json& variables) const;
  // With the labels that assistant_only_loss and weights of 0 leave.
  Example EncodeWhole(const Passage& passage, const nlohmann::ordered_json& variables) const;
  // Of a conversation, for assistant_only_loss.
  Example EncodeTurns(const Passage& passage, const nlohmann::ordered_json& variables) const;
  std::string WithEos(const std::string& text) const;
  // Of a sequence that is longer than max_length.
  void Truncate(Example* sequence) const;
  std::vector<int32_t> CutAnswer(const Example& sequence) const;
  TokenizedRow::PromptCut CutOfPrompt(const Example& whole, const Example& left) const;
  TokenizedRow::NoResponse WhyNoResponse(const std::vector<int32_t>& whole) const;
  void Finish(TokenizedRow* row) const;

  const Tokenizer& tokenizer_;
  const ChatTemplate* const chat_template_;
  const Options options_;
  std::string eos_token_;         // "" when the tokenizer has none
  bool marks_generation_ = false;  // the chat template, for assistant_only_loss
  Ids response_template_, instruction_template_;  // empty: not given
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_TOKENIZE_ROW_H_
