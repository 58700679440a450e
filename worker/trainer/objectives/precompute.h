#ifndef LIGER_WORKER_TRAINER_OBJECTIVES_PRECOMPUTE_H_
#define LIGER_WORKER_TRAINER_OBJECTIVES_PRECOMPUTE_H_

#include <map>

#include "worker/trainer/data/batch.h"
#include "worker/trainer/objectives/objective.h"

namespace liger::trainer {

// Log-probabilities of a set's answers under a reference, kept by answer: 8 bytes
// and the key of each.
class ReferenceLogpCache {
 public:
  // Asks the reference about a batch, unless all of its answers are known.
  void Compute(const Objective& objective, CausalLM& reference, const Batch& batch);

  // Sets batch->reference_logp_A. REQUIRES: all of its answers are known.
  void Attach(Batch* batch) const;

 private:
  bool Knows(const Batch& batch) const;

  std::map<AnswerKey, double> logps_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OBJECTIVES_PRECOMPUTE_H_
