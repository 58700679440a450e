#include "worker/trainer/data/message_roles.h"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <utility>

#include "worker/trainer/exact_json.h"

namespace liger::trainer {
namespace {

using nlohmann::ordered_json;

// As written in data, and as chat templates know it.
constexpr std::array<std::pair<std::string_view, std::string_view>, 15> kRoles = {{
    {"system", "system"},
    {"developer", "developer"},
    {"user", "user"},
    {"assistant", "assistant"},
    {"tool", "tool"},
    {"human", "user"},
    {"prompter", "user"},
    {"gpt", "assistant"},
    {"bing", "assistant"},
    {"chatgpt", "assistant"},
    {"bard", "assistant"},
    {"model", "assistant"},
    {"observation", "tool"},
    {"function", "tool"},  // OpenAI's former name of a tool that answers
    {kFunctionCall, kFunctionCall},
}};

}  // namespace

std::string KnownRole(const std::string& written) {
  std::string lower = written;
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  const auto it = std::find_if(kRoles.begin(), kRoles.end(),
                               [&](const auto& role) { return role.first == lower; });
  return it == kRoles.end() ? "" : std::string(it->second);
}

bool IsOfAssistant(const ordered_json& message) {
  return message.is_object() && message.value("role", "") == "assistant";
}

ordered_json WrappedTools(ordered_json tools) {
  for (ordered_json& tool : tools) {
    if (!tool.is_object() || tool.contains("type") || tool.contains("function")) continue;
    tool = {{"type", "function"}, {"function", std::move(tool)}};
  }
  return tools;
}

ordered_json ToolCallMessage(const std::string& text) {
  ordered_json calls;
  try {
    calls = ParseExactJson(text);
  } catch (const JsonTextError& e) {
    throw std::invalid_argument(e.what());
  }
  if (!calls.is_array()) calls = ordered_json::array({std::move(calls)});
  if (calls.empty()) throw std::invalid_argument("it calls nothing");
  ordered_json tool_calls = ordered_json::array();
  for (ordered_json& call : calls) {
    if (!call.is_object() || !call.contains("name") || !call["name"].is_string() ||
        !call.contains("arguments")) {
      throw std::invalid_argument("a call is no {\"name\", \"arguments\"}");
    }
    tool_calls.push_back({{"type", "function"},
                          {"function",
                           {{"name", std::move(call["name"])},
                            {"arguments", std::move(call["arguments"])}}}});
  }
  return {{"role", "assistant"}, {"content", ""}, {"tool_calls", std::move(tool_calls)}};
}

}  // namespace liger::trainer
