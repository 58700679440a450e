#ifndef LIGER_WORKER_TRAINER_TEXT_POST_PROCESSOR_H_
#define LIGER_WORKER_TRAINER_TEXT_POST_PROCESSOR_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "worker/trainer/text/config_node.h"

namespace liger::trainer {

// Completes the ids of one sequence, e.g. with BOS. Immutable and thread-safe.
class PostProcessor {
 public:
  virtual ~PostProcessor() = default;
  virtual void Process(bool add_special_tokens, std::vector<int32_t>* ids) const = 0;
};

// The post-processor at `node`; throws TrainerError for a type that is not in
// the factory table.
std::unique_ptr<PostProcessor> MakePostProcessor(const ConfigNode& node);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_POST_PROCESSOR_H_
