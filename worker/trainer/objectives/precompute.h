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
  // What is asked about in one pass of a batch: its rows' own answers, or KTO's mismatched ones.
  enum class Part { kOwn, kMismatched };

  // Whether every answer is known that the objective compares.
  bool Knows(const Objective& objective, const Batch& batch) const;
  bool Knows(const Batch& batch, Part part) const;

  // Asks the reference about those that are not.
  void Compute(const Objective& objective, CausalLM& reference, const Batch& batch);
  void Compute(const Objective& objective, CausalLM& reference, const Batch& batch, Part part);

  // Sets batch->reference_logp_A, NaN where the objective compares nothing.
  // REQUIRES: Knows.
  void Attach(Batch* batch) const;

  // Mismatched answers are others in each epoch.
  void ForgetMismatched();

  // Rows whose own answers are known.
  int64_t num_rows() const { return num_rows_; }

 private:
  bool Knows(std::span<const AnswerKey> answers) const;
  std::map<AnswerKey, double> logps_;
  int64_t num_rows_ = 0;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OBJECTIVES_PRECOMPUTE_H_
