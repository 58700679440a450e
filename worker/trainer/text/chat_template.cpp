#include "worker/trainer/text/chat_template.h"

#include <algorithm>
#include <filesystem>
#include <regex>

#include "worker/trainer/chat_template_files.h"
#include "worker/trainer/json_file.h"
#include "worker/trainer/text/config_node.h"
#include "worker/trainer/text/jinja/error.h"
#include "worker/trainer/text/jinja/interpreter.h"
#include "worker/trainer/text/jinja/parser.h"
#include "worker/trainer/text/special_tokens.h"
#include "worker/trainer/text/tokenizer_model_file.h"
#include "worker/trainer/text/unicode.h"

namespace liger::trainer {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxSourceBytes = 4 << 20;

struct Source {
  std::string name;  // of the template: "default", "tool_use", ...
  std::string file;  // for errors
  std::string text;
};

[[noreturn]] void Rethrow(const jinja::TemplateError& error, const std::string& file) {
  const std::string where = file + ", line " + std::to_string(error.line()) + ": ";
  switch (error.kind()) {
    case jinja::TemplateError::Kind::kRaised:
      throw DataError("the chat template refuses this conversation: " + std::string(error.what()) +
                          " (" + file + ", line " + std::to_string(error.line()) + ")",
                      "Change the conversation to what the model's template expects.")
          .File(file);
    case jinja::TemplateError::Kind::kRuntime:
      throw DataError("the chat template fails on this conversation: " + where + error.what(),
                      "Check that every message has the fields that the template reads.")
          .File(file);
    case jinja::TemplateError::Kind::kBound:
      throw DataError("the chat template does too much on this conversation: " + where +
                          error.what(),
                      "Shorten the conversation, or change the chat template: what a rendering may "
                      "take is bounded (docs/models.md).")
          .File(file);
    default:
      throw ConfigError(where + error.what(), "Change the chat template, or give the job another.")
          .File(file);
  }
}

// tokenizer_config.json's chat_template: a string, or a list of {name, template}.
std::vector<Source> FromConfig(const std::string& model_dir) {
  const std::string path = (fs::path(model_dir) / "tokenizer_config.json").string();
  if (!fs::exists(path)) return {};
  const nlohmann::json json = ReadJsonFile(path);
  const ConfigNode config(json, path, "");
  if (!config.Has("chat_template")) return {};
  const ConfigNode node = config.At("chat_template");
  const std::string file = "tokenizer_config.json's chat_template";
  if (node.IsString()) return {{"default", file, node.String()}};
  std::vector<Source> sources;
  for (const ConfigNode& item : node.Array()) {
    const std::string name = item.String("name");
    sources.push_back({name, file + " \"" + name + "\"", item.String("template")});
  }
  return sources;
}

// kChatTemplateFile and kChatTemplatesFolder/NAME.jinja, which win over the config.
std::vector<Source> FromFiles(const std::string& model_dir) {
  std::vector<Source> sources;
  const fs::path main = fs::path(model_dir) / kChatTemplateFile;
  if (fs::exists(main)) {
    sources.push_back({"default", kChatTemplateFile, ReadTextFile(main.string())});
  }
  const fs::path dir = fs::path(model_dir) / kChatTemplatesFolder;
  if (!fs::is_directory(dir)) return sources;
  for (const fs::directory_entry& entry : fs::directory_iterator(dir)) {
    if (entry.path().extension() != ".jinja") continue;
    sources.push_back({entry.path().stem().string(),
                       std::string(kChatTemplatesFolder) + "/" + entry.path().filename().string(),
                       ReadTextFile(entry.path().string())});
  }
  return sources;
}

// A message's reasoning has three names in data sets. As in transformers (5.23),
// a template finds it as `reasoning_content`, and gpt-oss's as `thinking`.
void AliasReasoning(nlohmann::ordered_json* message) {
  for (const char* name : {"reasoning_content", "thinking", "reasoning"}) {
    if (!message->contains(name)) continue;
    const nlohmann::ordered_json reasoning = (*message)[name];
    // First, as there: templates that print the whole message show the order.
    nlohmann::ordered_json aliased = {{"thinking", reasoning}};
    aliased.update(*message);
    aliased["reasoning_content"] = reasoning;
    *message = std::move(aliased);
    return;
  }
}

// As transformers hands messages to a template: without keys whose value is null.
nlohmann::ordered_json Prepared(const nlohmann::ordered_json& messages) {
  if (!messages.is_array() || messages.empty()) {
    throw DataError("a conversation must be an array of at least one message",
                    "Drop the row, or give it messages.");
  }
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (const auto& message : messages) {
    if (!message.is_object()) {
      throw DataError("a message must be an object with role and content, got " +
                          std::string(message.type_name()),
                      "Correct the row.");
    }
    nlohmann::ordered_json kept = nlohmann::ordered_json::object();
    for (const auto& [key, value] : message.items()) {
      if (!value.is_null()) kept[key] = value;
    }
    AliasReasoning(&kept);
    out.push_back(std::move(kept));
  }
  return out;
}

}  // namespace

struct ChatTemplate::Impl {
  struct Compiled {
    Source source;
    jinja::Body body;
  };
  std::vector<Compiled> templates;
  nlohmann::ordered_json variables;

  void Add(Source source) {
    if (source.text.size() > kMaxSourceBytes) {
      throw ConfigError(source.file + " is larger than 4 MiB, too large for a chat template")
          .File(source.file);
    }
    if (!unicode::IsValidUtf8(source.text)) {
      throw ConfigError(source.file + " is not UTF-8", "Save it as UTF-8.").File(source.file);
    }
    try {
      jinja::Body body = jinja::Parse(source.text);
      templates.push_back({std::move(source), std::move(body)});
    } catch (const jinja::TemplateError& error) {
      Rethrow(error, source.file);
    }
  }

  const Compiled* Find(const std::string& name) const {
    for (const Compiled& compiled : templates) {
      if (compiled.source.name == name) return &compiled;
    }
    return nullptr;
  }

  // The one template, or of several "tool_use" for tools and "default".
  const Compiled& Choose(bool with_tools) const {
    if (templates.size() == 1) return templates[0];
    const Compiled* chosen = with_tools ? Find("tool_use") : nullptr;
    if (chosen == nullptr) chosen = Find("default");
    if (chosen != nullptr) return *chosen;
    std::string names;
    for (const Compiled& compiled : templates) names += " " + compiled.source.name;
    throw ConfigError("the model has several chat templates and none is named \"default\":" + names,
                      "Name the one to use \"default\".");
  }
};

ChatTemplate::ChatTemplate(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

std::optional<ChatTemplate> ChatTemplate::FromFolder(const std::string& model_dir) {
  std::vector<Source> sources = FromFiles(model_dir);
  if (sources.empty()) sources = FromConfig(model_dir);
  if (sources.empty()) return std::nullopt;
  std::sort(sources.begin(), sources.end(),
            [](const Source& a, const Source& b) { return a.name < b.name; });
  auto impl = std::make_shared<Impl>();
  for (Source& source : sources) impl->Add(std::move(source));
  impl->variables = ConfigTokens::Read(model_dir).roles;
  AddModelFileRoles(model_dir, &impl->variables);
  return ChatTemplate(std::move(impl));
}

ChatTemplate ChatTemplate::FromString(const std::string& source, const std::string& name,
                                      const nlohmann::ordered_json& variables) {
  auto impl = std::make_shared<Impl>();
  impl->Add({"default", name, source});
  impl->variables = variables;
  return ChatTemplate(std::move(impl));
}

RenderedChat ChatTemplate::RenderWithSpans(const nlohmann::ordered_json& messages,
                                           bool add_generation_prompt,
                                           const nlohmann::ordered_json& extra) const {
  nlohmann::ordered_json variables = nlohmann::ordered_json::object();
  for (const nlohmann::ordered_json* source : {&impl_->variables, &extra}) {
    for (const auto& [key, value] : source->items()) variables[key] = value;
  }
  variables["messages"] = Prepared(messages);
  variables["add_generation_prompt"] = add_generation_prompt;
  for (const char* name : {"tools", "documents"}) {
    if (!variables.contains(name)) variables[name] = nullptr;
  }
  const bool with_tools = !variables["tools"].is_null();
  const Impl::Compiled& chosen = impl_->Choose(with_tools);
  try {
    const jinja::Value values = jinja::Value::FromJson(variables);
    jinja::Rendered rendered = jinja::Render(chosen.body, *values.AsDict());
    return {std::move(rendered.text), std::move(rendered.generation_spans)};
  } catch (const jinja::TemplateError& error) {
    Rethrow(error, chosen.source.file);
  }
}

std::string ChatTemplate::Render(const nlohmann::ordered_json& messages, bool add_generation_prompt,
                                 const nlohmann::ordered_json& extra) const {
  return RenderWithSpans(messages, add_generation_prompt, extra).text;
}

bool ChatTemplate::MarksGeneration() const {
  static const std::regex block(R"(\{%[-+]?\s*generation\s*[-+]?%\})");
  return std::regex_search(source(), block);
}

ClockUse ChatTemplate::clock_use() const {
  ClockUse use = ClockUse::kNone;
  for (const Impl::Compiled& compiled : impl_->templates) {
    use = std::max(use, FindClockUse(compiled.source.text));
  }
  return use;
}

const std::string& ChatTemplate::source() const { return impl_->Choose(false).source.text; }

}  // namespace liger::trainer
