#ifndef LIGER_WORKER_TRAINER_DATA_MESSAGE_ROLES_H_
#define LIGER_WORKER_TRAINER_DATA_MESSAGE_ROLES_H_

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace liger::trainer {

// LLaMA-Factory's speaker whose text is a call of tools: an assistant's turn.
inline constexpr std::string_view kFunctionCall = "function_call";

// What chat templates call a speaker of a data set (system, developer, user, assistant, tool), or
// kFunctionCall; "": none is known by that name. In any case of letters.
std::string KnownRole(const std::string& written);

// By its role as chat templates know it.
bool IsOfAssistant(const nlohmann::ordered_json& message);

// Tools as chat templates take them, {"type": "function", "function": tool}, where LLaMA-Factory's
// are the functions themselves.
nlohmann::ordered_json WrappedTools(nlohmann::ordered_json tools);

// An assistant's message of tool calls, from such a speaker's text: {"name", "arguments"}, or a
// list of them, as JSON. Throws std::invalid_argument with what is wrong.
nlohmann::ordered_json ToolCallMessage(const std::string& text);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_MESSAGE_ROLES_H_
