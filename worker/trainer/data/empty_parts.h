#ifndef LIGER_WORKER_TRAINER_DATA_EMPTY_PARTS_H_
#define LIGER_WORKER_TRAINER_DATA_EMPTY_PARTS_H_

#include "worker/trainer/data/row.h"

namespace liger::trainer {

// Whether an answer that the row trains on says nothing: a completion, one of a pair's answers, a
// text, or an assistant's message of these, with no text but white space and no call of a tool.
// Of rows that came tokenised nothing is known: false.
bool HasEmptyAnswer(const Row& row);

// Whether the row's prompt is a text with nothing but white space. Of pairs it may be what two
// answers begin with, where another column than `prompt` holds the question.
bool HasEmptyPrompt(const Row& row);

// Whether the row is a conversation, to be trained on whole, in which no assistant speaks.
bool LacksAssistant(const Row& row);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_EMPTY_PARTS_H_
