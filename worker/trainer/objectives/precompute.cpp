#include "worker/trainer/objectives/precompute.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace liger::trainer {

bool ReferenceLogpCache::Knows(const Batch& batch) const {
  return std::all_of(batch.answers.begin(), batch.answers.end(),
                     [this](const AnswerKey& answer) { return logps_.contains(answer); });
}

void ReferenceLogpCache::Compute(const Objective& objective, CausalLM& reference,
                                 const Batch& batch) {
  if (Knows(batch)) return;
  const at::Tensor logp_A = objective.ReferenceLogps(reference, batch).cpu().contiguous();
  TORCH_CHECK(logp_A.numel() == static_cast<int64_t>(batch.answers.size()),
              "a reference's log-probabilities are one an answer");
  const double* values = logp_A.const_data_ptr<double>();
  for (size_t i = 0; i < batch.answers.size(); ++i) logps_[batch.answers[i]] = values[i];
}

void ReferenceLogpCache::Attach(Batch* batch) const {
  batch->reference_logp_A =
      at::empty({static_cast<int64_t>(batch->answers.size())}, at::TensorOptions(at::kDouble));
  double* values = batch->reference_logp_A.mutable_data_ptr<double>();
  for (const AnswerKey& answer : batch->answers) *values++ = logps_.at(answer);
}

}  // namespace liger::trainer
