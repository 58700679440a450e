#ifndef LIGER_WORKER_TRAINER_OBJECTIVES_PRECOMPUTE_H_
#define LIGER_WORKER_TRAINER_OBJECTIVES_PRECOMPUTE_H_

#include <cstdint>
#include <map>
#include <span>

#include "worker/trainer/data/batch.h"
#include "worker/trainer/objectives/objective.h"

namespace liger::trainer {

// Log-probabilities of a set's answers under a reference, kept by answer: 8 bytes
// and the key of each.
class ReferenceLogpCache {
 public:
  // Whether every answer is known that the objective compares.
  bool Knows(const Objective& objective, const Batch& batch) const;

  // Asks the reference about those that are not.
  void Compute(const Objective& objective, CausalLM& reference, const Batch& batch);
  // The rows' own ones alone.
  void ComputeOwn(const Objective& objective, CausalLM& reference, const Batch& batch);

  // Sets batch->reference_logp_A, NaN where the objective compares nothing.
  // REQUIRES: Knows.
  void Attach(Batch* batch) const;

  // Mismatched answers are others in each epoch.
  void ForgetMismatched();

  // Rows whose own answers are known.
  int64_t num_rows() const { return num_rows_; }

 private:
  bool Knows(std::span<const AnswerKey> answers) const;
  void Ask(const Objective& objective, CausalLM& reference, const Batch& batch,
           std::span<const AnswerKey> answers);

  std::map<AnswerKey, double> logps_;
  int64_t num_rows_ = 0;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OBJECTIVES_PRECOMPUTE_H_
