#ifndef LIGER_WORKER_TRAINER_DATA_LEFT_OUT_H_
#define LIGER_WORKER_TRAINER_DATA_LEFT_OUT_H_

#include "worker/trainer/data/row.h"
#include "worker/trainer/text/chat_template.h"

namespace liger::trainer {

// What a row has and the model does not see: of a conversation (a pair's with the chosen answer)
// what the chat template renders to the same text without it, of texts the tools that they do not
// name. What a template cannot do without is not left out.
struct LeftOut {
  bool tools = false;
  bool tool_turns = false;  // all messages of the role
  bool developer_turns = false;
  bool reasoning = false;  // what its assistants reason
};

// `chat_template` may be null where the row is no conversation.
LeftOut FindLeftOut(const ChatTemplate* chat_template, const Row& row);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_LEFT_OUT_H_
