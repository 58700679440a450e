#ifndef LIGER_WORKER_TRAINER_DATA_TOOL_CALLS_H_
#define LIGER_WORKER_TRAINER_DATA_TOOL_CALLS_H_

#include <nlohmann/json.hpp>
#include <string>

#include "worker/trainer/text/chat_template.h"

namespace liger::trainer {

// Throws TrainerError (DATA), without a row, where a message calls a tool (`tool_calls`, or
// OpenAI's former `function_call`) and the chat template writes the call nowhere: the model would
// be trained on an empty turn. Names the message (1-based), the field and the function.
//
// `messages` have to be such as the template renders. Calls without a name, and templates that
// refuse names they do not know, pass.
void RequireRenderedCalls(const ChatTemplate& chat_template, const nlohmann::ordered_json& messages,
                          bool add_generation_prompt, const nlohmann::ordered_json& variables);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_TOOL_CALLS_H_
