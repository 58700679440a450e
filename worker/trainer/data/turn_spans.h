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
// The renderings of the shorter conversations have to be prefixes of the whole one's, but for an
// `eos_token` at the end (Phi-3's templates write one behind the last turn) and for what a
// generation prompt has more (<think>). Throws TrainerError (DATA) that names the message
// where they are not (Qwen3's template drops the thoughts of earlier turns), and for a
// conversation that begins with the assistant.
RenderedChat RenderTurns(const ChatTemplate& chat_template, const nlohmann::ordered_json& messages,
                         const nlohmann::ordered_json& variables, const std::string& eos_token);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_TURN_SPANS_H_
