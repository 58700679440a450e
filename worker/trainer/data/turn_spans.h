#ifndef LIGER_WORKER_TRAINER_DATA_TURN_SPANS_H_
#define LIGER_WORKER_TRAINER_DATA_TURN_SPANS_H_

#include <nlohmann/json.hpp>
#include <string>

#include "worker/trainer/text/chat_template.h"

namespace liger::trainer {

// The assistant's turns of a conversation whose chat template has no {% generation %} blocks, as
// generation_spans: from what the conversation before a turn renders to, with its generation
// prompt, to what it renders to with the turn. So a turn's span is what the model is to write,
// its end of turn and what stands behind that (a line break) included, as the blocks of TRL's
// training templates have it.
//
// Where the renderings of the shorter conversations are no prefixes of the whole one's, but for an
// `eos_token` at the end (Phi-3's templates write one behind the last turn) and for what a
// generation prompt has more (<think>), turns are found by what they say: the whole has to hold
// that, and behind it what ends the turn where it is the last one (Qwen3's template drops the
// thoughts of earlier turns, Mistral's writes the system prompt before a question that ends the
// conversation). Throws TrainerError (DATA) that names the message where it does not, and for a
// conversation that begins with the assistant.
RenderedChat RenderTurns(const ChatTemplate& chat_template, const nlohmann::ordered_json& messages,
                         const nlohmann::ordered_json& variables, const std::string& eos_token);

// Whether assistant's messages have OpenAI's weight of 0, which is not to be trained on. Throws
// TrainerError (DATA) that names a message of another weight than 0, 1 and null; of other roles
// it has no meaning.
bool HasWeightlessTurns(const nlohmann::ordered_json& messages);

// The same of these turns alone, whatever blocks the template has; one that the conversation begins
// with begins with it. No spans, nor a text: there are none.
RenderedChat RenderWeightlessTurns(const ChatTemplate& chat_template,
                                   const nlohmann::ordered_json& messages,
                                   const nlohmann::ordered_json& variables,
                                   const std::string& eos_token);

// Takes away the spans of `chat` that have something in common with these of the same text: blocks
// may begin before a turn, with what a generation prompt writes.
void EraseTurns(const RenderedChat& turns, RenderedChat* chat);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_TURN_SPANS_H_
