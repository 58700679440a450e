#ifndef LIGER_WORKER_TRAINER_DATA_CONTENT_PARTS_H_
#define LIGER_WORKER_TRAINER_DATA_CONTENT_PARTS_H_

#include "worker/trainer/data/row.h"
#include "worker/trainer/text/chat_template.h"

namespace liger::trainer {

// Whether the template writes the text of a message whose content is a list of parts, as OpenAI
// has it ([{type: text, text: ...}]). Most text models' take content for a string: they fail, or
// print the list as Python does, which transformers then trains on.
bool ReadsContentParts(const ChatTemplate& chat_template);

// Makes such contents of the row's conversations strings, a line break between parts, as vLLM
// serves them to these templates.
void JoinContentParts(Row* row);

// Gives each message that calls a tool and has no content, or null (OpenAI's), an empty one; false:
// there is none. transformers hands them to the template without a content, with which many fail.
bool FillContents(Row* row);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_CONTENT_PARTS_H_
