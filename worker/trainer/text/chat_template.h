#ifndef LIGER_WORKER_TRAINER_TEXT_CHAT_TEMPLATE_H_
#define LIGER_WORKER_TRAINER_TEXT_CHAT_TEMPLATE_H_

#include <cstddef>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "worker/trainer/text/clock_use.h"

namespace liger::trainer {

// One message of a conversation, for callers that build them in code.
struct ChatMessage {
  std::string role;
  std::string content;
};

// A rendered conversation. `generation_spans` are the half-open byte ranges
// that came from {% generation %} blocks: what the assistant says, for
// templates that mark it.
struct RenderedChat {
  std::string text;
  std::vector<std::pair<size_t, size_t>> generation_spans;
};

// A model's chat template: the Jinja that transformers runs for
// apply_chat_template (trim_blocks, lstrip_blocks, loop controls, tojson,
// raise_exception, strftime_now), interpreted natively in jinja/.
//
// Immutable; const methods may be called from many threads at once.
class ChatTemplate {
 public:
  // From MODEL_DIR/chat_template.jinja, else tokenizer_config.json's
  // chat_template, which is a string or a list of {name, template}; of a list
  // (and of additional_chat_templates/*.jinja) "tool_use" serves conversations with tools
  // and "default" the others. nullopt: the folder has no template.
  // Throws TrainerError naming file, line and construct when the template
  // cannot be parsed or uses what is not implemented.
  static std::optional<ChatTemplate> FromFolder(const std::string& model_dir);

  // From source. `name` is used in errors; `variables` (an object: bos_token,
  // eos_token, ...) are visible to the template.
  static ChatTemplate FromString(const std::string& source, const std::string& name,
                                 const nlohmann::ordered_json& variables);

  // `messages` is an array of objects with role and content. Keys of `extra`
  // (an object or null; "tools" and "documents" among them) are visible to the
  // template and win over its special tokens. Object keys keep their order when
  // given as ordered_json, which matters to templates that print tools.
  //
  // Throws TrainerError (DATA) when the template itself raises an exception or
  // the conversation does not fit it, e.g. a message without content.
  std::string Render(const nlohmann::ordered_json& messages, bool add_generation_prompt,
                     const nlohmann::ordered_json& extra = nullptr) const;
  RenderedChat RenderWithSpans(const nlohmann::ordered_json& messages, bool add_generation_prompt,
                               const nlohmann::ordered_json& extra = nullptr) const;

  // Whether it has {% generation %} blocks ("default", where there are several).
  bool MarksGeneration() const;

  // Of all its templates together.
  ClockUse clock_use() const;

  // The Jinja source ("default" where there are several), e.g. to save it.
  const std::string& source() const;

 private:
  struct Impl;
  explicit ChatTemplate(std::shared_ptr<const Impl> impl);
  std::shared_ptr<const Impl> impl_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_CHAT_TEMPLATE_H_
