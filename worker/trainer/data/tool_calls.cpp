#include "worker/trainer/data/tool_calls.h"

#include <cstddef>
#include <string>
#include <vector>

#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

using nlohmann::ordered_json;

constexpr char kToolCalls[] = "tool_calls", kFunctionCall[] = "function_call";

struct Call {
  size_t message;
  const char* field;
  std::string name, mark;
};

// Gives each call's function a name of its own that no text has, to be looked for.
class Marker {
 public:
  explicit Marker(ordered_json* messages) {
    for (size_t i = 0; i < messages->size(); ++i) {
      ordered_json& message = (*messages)[i];
      if (!message.is_object()) continue;
      if (const auto it = message.find(kFunctionCall); it != message.end()) {
        Mark(i, kFunctionCall, &*it);
      }
      const auto it = message.find(kToolCalls);
      if (it == message.end() || !it->is_array()) continue;
      for (ordered_json& call : *it) {
        if (!call.is_object()) continue;
        const auto function = call.find("function");
        Mark(i, kToolCalls, function == call.end() ? &call : &*function);
      }
    }
  }

  const std::vector<Call>& calls() const { return calls_; }

 private:
  void Mark(size_t message, const char* field, ordered_json* function) {
    if (!function->is_object()) return;
    const auto name = function->find("name");
    if (name == function->end() || !name->is_string()) return;
    // Ends in a letter, so that no mark is the beginning of another.
    const std::string mark = "liger_call_" + std::to_string(calls_.size()) + "_mark";
    calls_.push_back({message, field, name->get<std::string>(), mark});
    *name = mark;
  }

  std::vector<Call> calls_;
};

bool MayCall(const ordered_json& messages) {
  for (const ordered_json& message : messages) {
    if (message.contains(kToolCalls) || message.contains(kFunctionCall)) return true;
  }
  return false;
}

}  // namespace

void RequireRenderedCalls(const ChatTemplate& chat_template, const ordered_json& messages,
                          bool add_generation_prompt, const ordered_json& variables) {
  if (!MayCall(messages)) return;
  ordered_json marked = messages;
  const Marker marker(&marked);
  if (marker.calls().empty()) return;
  std::string text;
  try {
    text = chat_template.Render(marked, add_generation_prompt, variables);
  } catch (const TrainerError&) {
    return;  // it looks at the names
  }
  for (const Call& call : marker.calls()) {
    if (text.find(call.mark) != std::string::npos) continue;
    const std::string where = "message " + std::to_string(call.message + 1) + "'s " + call.field;
    throw DataError(
        where + ": the chat template does not write the call of \"" + call.name +
            "\", so the model would be trained on a turn without it",
        call.field == std::string(kFunctionCall)
            ? "Write it as tool_calls: [{\"type\": \"function\", \"function\": {\"name\", "
              "\"arguments\"}}], and use a model whose chat template knows tools."
            : "Use a model whose chat template knows tools (tool_calls; a ShareGPT row's "
              "function_call becomes that), write the call as the message's content, or remove "
              "the row.")
        .Field(call.field);
  }
}

}  // namespace liger::trainer
