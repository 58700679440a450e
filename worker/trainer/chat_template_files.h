#ifndef LIGER_WORKER_TRAINER_CHAT_TEMPLATE_FILES_H_
#define LIGER_WORKER_TRAINER_CHAT_TEMPLATE_FILES_H_

namespace liger::trainer {

// Where a model folder keeps its chat templates (transformers' utils/hub.py):
// text/ reads them, checkpoint/ saves them with the model.
inline constexpr char kChatTemplateFile[] = "chat_template.jinja";
// Templates with names, such as tool_use.jinja.
inline constexpr char kChatTemplatesFolder[] = "additional_chat_templates";

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_CHAT_TEMPLATE_FILES_H_
