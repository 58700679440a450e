#include "worker/trainer/data/left_out.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "worker/trainer/data/message_roles.h"
#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

using nlohmann::ordered_json;

constexpr char kTools[] = "tools";
// Names that data sets have for what an assistant reasons (ChatTemplate knows them, too).
constexpr const char* kReasoning[] = {"reasoning_content", "thinking", "reasoning"};

// Null and an empty list are none.
bool HasTools(const ordered_json& variables) {
  const auto tools = variables.find(kTools);
  return tools != variables.end() && tools->is_array() && !tools->empty();
}

// Whether the text names each of the tools, as one does that they were written into.
bool NamesTools(const std::string& text, const ordered_json& variables) {
  const ordered_json& tools = variables.at(kTools);
  return std::all_of(tools.begin(), tools.end(), [&](const ordered_json& tool) {
    const bool wrapped = tool.is_object() && tool.contains("function");
    const ordered_json& function = wrapped ? tool.at("function") : tool;
    if (!function.is_object() || !function.contains("name")) return false;
    const ordered_json& name = function.at("name");
    return name.is_string() && text.find(name.get_ref<const std::string&>()) != std::string::npos;
  });
}

bool Reasons(const ordered_json& message) {
  if (!IsOfAssistant(message)) return false;
  return std::ranges::any_of(kReasoning, [&](const char* name) {
    const auto it = message.find(name);
    return it != message.end() && !it->empty() && *it != "";
  });
}

ordered_json WithoutTools(ordered_json variables) {
  variables.erase(kTools);
  return variables;
}

ordered_json WithoutReasoning(ordered_json messages) {
  for (ordered_json& message : messages) {
    if (!IsOfAssistant(message)) continue;
    for (const char* name : kReasoning) message.erase(name);
  }
  return messages;
}

// A conversation, and what it renders to.
class Rendering {
 public:
  Rendering(const ChatTemplate& chat_template, const ordered_json& messages,
            const ordered_json& variables)
      : template_(chat_template),
        messages_(messages),
        variables_(variables),
        text_(Render(messages, variables)) {}

  bool LosesTools() const {
    // Mostly the text names them. Messages may hold the tools themselves.
    return text_ && !NamesTools(*text_, variables_) &&
           IsSameAs(messages_, WithoutTools(variables_));
  }

  bool LosesTurns(const char* role) const {
    ordered_json others = ordered_json::array();
    std::ranges::copy_if(messages_, std::back_inserter(others), [&](const ordered_json& message) {
      return message.value("role", "") != role;
    });
    return others.size() < messages_.size() && IsSameAs(others, variables_);
  }

  bool LosesReasoning() const {
    return std::ranges::any_of(messages_, Reasons) &&
           IsSameAs(WithoutReasoning(messages_), variables_);
  }

 private:
  // Null: the template refuses it.
  std::optional<std::string> Render(const ordered_json& messages,
                                    const ordered_json& variables) const {
    try {
      return template_.Render(messages, false, variables);
    } catch (const TrainerError&) {
      return std::nullopt;
    }
  }

  bool IsSameAs(const ordered_json& messages, const ordered_json& variables) const {
    return text_ && Render(messages, variables) == text_;
  }

  const ChatTemplate& template_;
  const ordered_json& messages_;
  const ordered_json& variables_;
  const std::optional<std::string> text_;
};

// Whether there is anything in the message that templates are known to leave out.
bool MayBeLeftOut(const ordered_json& message) {
  const std::string role = message.value("role", "");
  return role == "tool" || role == "developer" || Reasons(message);
}

}  // namespace

LeftOut FindLeftOut(const ChatTemplate* chat_template, const Row& row) {
  const std::vector<const Passage*> passages = PassagesOf(row);
  const ordered_json& variables = row.template_variables;
  const bool has_tools = HasTools(variables);
  if (passages.empty()) return {};
  if (const auto* prompt = std::get_if<std::string>(passages.front())) {
    return {.tools = has_tools && !NamesTools(*prompt, variables)};
  }
  // Not of a pair's rejected answer.
  ordered_json messages = std::get<ordered_json>(*passages.front());
  if (passages.size() > 1) {
    const auto& answer = std::get<ordered_json>(*passages[1]);
    messages.insert(messages.end(), answer.begin(), answer.end());
  }
  if (!has_tools && std::ranges::none_of(messages, MayBeLeftOut)) return {};
  const Rendering rendering(*chat_template, messages, variables);
  return {.tools = has_tools && rendering.LosesTools(),
          .tool_turns = rendering.LosesTurns("tool"),
          .developer_turns = rendering.LosesTurns("developer"),
          .reasoning = rendering.LosesReasoning()};
}

}  // namespace liger::trainer
