#ifndef LIGER_WORKER_TRAINER_DATA_LOSS_MASKS_H_
#define LIGER_WORKER_TRAINER_DATA_LOSS_MASKS_H_

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "worker/trainer/data/example.h"
#include "worker/trainer/text/chat_template.h"
#include "worker/trainer/text/tokenizer.h"

// Which tokens of an SFT row have a loss, beyond "those of the completion".
namespace liger::trainer {

// Ignores the labels of all tokens that no {% generation %} block of the chat
// template wrote; `ids` are those of `chat.text`. A token that is partly in a block
// counts as of the block, as transformers' apply_chat_template has it
// (return_assistant_tokens_mask); unlike there a block may begin with a space
// whatever the tokenizer's trim_offsets.
void KeepGenerated(const Tokenizer& tokenizer, const RenderedChat& chat, Example* example);

// Ignores the labels of the tokens of `chat`'s spans, the other way around.
void IgnoreGenerated(const Tokenizer& tokenizer, const RenderedChat& chat, Example* example);

// The index of the token that byte `position` of `text` belongs to, of a tokenizer that decodes
// its own ids to the text again: one of bytes. (SentencePiece's: token_spans.h.)
size_t TokenAt(const Tokenizer& tokenizer, std::string_view text, const std::vector<int32_t>& ids,
               size_t position);

// Keeps the labels of what follows a response template alone, as TRL's
// DataCollatorForCompletionOnlyLM did, token by token: without an instruction
// template what follows the last response template, with one what follows each,
// up to the next instruction template. False: the row has no response template,
// and no label is left.
bool KeepResponses(const std::vector<int32_t>& response_template,
                   const std::vector<int32_t>& instruction_template, Example* example);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_LOSS_MASKS_H_
