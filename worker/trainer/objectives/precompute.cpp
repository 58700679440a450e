#include "worker/trainer/objectives/precompute.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

namespace liger::trainer {
namespace {

using AnswerKeys = std::span<const AnswerKey>;

// Batch::answers of labelled rows are as many mismatched ones behind their own.
AnswerKeys OwnAnswers(const Batch& batch) {
  const AnswerKeys all = batch.answers;
  return batch.mismatched ? all.first(all.size() / 2) : all;
}
AnswerKeys MismatchedAnswers(const Batch& batch) {
  return AnswerKeys(batch.answers).subspan(OwnAnswers(batch).size());
}
AnswerKeys AnswersOf(const Batch& batch, ReferenceLogpCache::Part part) {
  return part == ReferenceLogpCache::Part::kOwn ? OwnAnswers(batch) : MismatchedAnswers(batch);
}

bool IsMismatched(const AnswerKey& answer) { return answer.which >= 0; }

}  // namespace

bool ReferenceLogpCache::Knows(AnswerKeys answers) const {
  return std::all_of(answers.begin(), answers.end(),
                     [this](const AnswerKey& answer) { return logps_.contains(answer); });
}

bool ReferenceLogpCache::Knows(const Objective& objective, const Batch& batch) const {
  return Knows(batch, Part::kOwn) &&
         (!objective.ComparesMismatched() || Knows(batch, Part::kMismatched));
}

bool ReferenceLogpCache::Knows(const Batch& batch, Part part) const {
  return Knows(AnswersOf(batch, part));
}

void ReferenceLogpCache::Compute(const Objective& objective, CausalLM& reference,
                                 const Batch& batch) {
  Compute(objective, reference, batch, Part::kOwn);
  if (objective.ComparesMismatched()) Compute(objective, reference, batch, Part::kMismatched);
}

void ReferenceLogpCache::Compute(const Objective& objective, CausalLM& reference,
                                 const Batch& batch, Part part) {
  const AnswerKeys answers = AnswersOf(batch, part);
  if (Knows(answers)) return;
  const Batch& asked = part == Part::kOwn ? batch : *batch.mismatched;
  const at::Tensor logp_A = objective.ReferenceLogps(reference, asked).cpu().contiguous();
  TORCH_CHECK(logp_A.numel() == std::ssize(answers),
              "a reference's log-probabilities are one an answer");
  const double* values = logp_A.const_data_ptr<double>();
  for (const AnswerKey& answer : answers) {
    const bool added = logps_.insert_or_assign(answer, *values++).second;
    num_rows_ += added && answer.which == AnswerKey::kChosen;
  }
}

void ReferenceLogpCache::Attach(Batch* batch) const {
  batch->reference_logp_A =
      at::empty({static_cast<int64_t>(batch->answers.size())}, at::TensorOptions(at::kDouble));
  double* values = batch->reference_logp_A.mutable_data_ptr<double>();
  for (const AnswerKey& answer : batch->answers) {
    const auto known = logps_.find(answer);
    TORCH_CHECK(known != logps_.end() || IsMismatched(answer), "an answer is not known");
    *values++ = known == logps_.end() ? std::numeric_limits<double>::quiet_NaN() : known->second;
  }
}

void ReferenceLogpCache::ForgetMismatched() {
  std::erase_if(logps_, [](const auto& item) { return IsMismatched(item.first); });
}

}  // namespace liger::trainer
