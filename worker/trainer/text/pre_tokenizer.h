#ifndef LIGER_WORKER_TRAINER_TEXT_PRE_TOKENIZER_H_
#define LIGER_WORKER_TRAINER_TEXT_PRE_TOKENIZER_H_

#include <memory>

#include "worker/trainer/text/config_node.h"
#include "worker/trainer/text/pre_tokenized.h"

namespace liger::trainer {

// Cuts pieces of text into smaller ones, and may rewrite them. Immutable and
// thread-safe.
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  virtual void Apply(PreTokenized* pieces) const = 0;
};

// The pre-tokenizer at `node`; throws TrainerError for a type that is not in
// the factory table.
std::unique_ptr<PreTokenizer> MakePreTokenizer(const ConfigNode& node);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_PRE_TOKENIZER_H_
