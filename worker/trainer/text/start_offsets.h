#ifndef LIGER_WORKER_TRAINER_TEXT_START_OFFSETS_H_
#define LIGER_WORKER_TRAINER_TEXT_START_OFFSETS_H_

#include "worker/trainer/text/config_node.h"

namespace liger::trainer {

// A Metaspace with prepend_scheme "first" acts where a text starts. `tokenizers` takes for the
// start every piece of offset 0 in the text before normalization; here it is the first piece,
// unless what stood before it was removed. Refuses, of tokenizer.json's `root`, the pipelines in
// which these two may differ: a normalizer that cuts off the start, or, with the Metaspace behind
// another pre-tokenizer, any normalizer and a pre-tokenizer that prepends (several characters then
// have the first offset). Throws TrainerError (CONFIG).
void RefuseStartsByOffset(const ConfigNode& root);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_START_OFFSETS_H_
