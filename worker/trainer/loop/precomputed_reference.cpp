#include "worker/trainer/loop/precomputed_reference.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <utility>

#include "worker/trainer/loop/stand_in.h"

namespace liger::trainer {

PrecomputedReference::PrecomputedReference(const Objective& objective,
                                           std::shared_ptr<CausalLM> reference, const Run& run,
                                           const StopFlag& stop)
    : objective_(objective),
      reference_(std::move(reference)),
      run_(run),
      stop_(stop),
      stand_in_(StandInBatch(objective)) {}

void PrecomputedReference::AttachToEvaluation(std::vector<Batch>& batches) {
  ReferenceLogpCache cache;  // its rows are others than the training set's
  if (run_.wake) run_.wake();
  Compute(batches, cache);
  for (Batch& batch : batches) cache.Attach(&batch);
}

void PrecomputedReference::AttachToStep(std::vector<Batch>& batches, const BatchIterator& rest,
                                        int64_t step) {
  const bool known = std::all_of(batches.begin(), batches.end(), [this](const Batch& batch) {
    return cache_.Knows(objective_, batch);
  });
  if (OnAnyRank(!known)) {
    const bool last_epoch = ComputeEpoch(batches, rest, step);
    const bool all =
        !objective_.ComparesMismatched() && !OnAnyRank(cache_.num_rows() < run_.num_rows);
    if (last_epoch || all) reference_.reset();
    if (reference_ && run_.park) run_.park();
  }
  for (Batch& batch : batches) cache_.Attach(&batch);
}

void PrecomputedReference::Compute(const std::vector<Batch>& batches, ReferenceLogpCache& cache) {
  const at::NoGradGuard no_grad;
  for (const Batch& batch : batches) {
    stop_.Check();
    Ask(batch, Part::kOwn, cache);
    if (objective_.ComparesMismatched()) Ask(batch, Part::kMismatched, cache);
  }
}

void PrecomputedReference::Ask(const Batch& batch, Part part, ReferenceLogpCache& cache) {
  const bool asks = batch.num_rows > 0 && !cache.Knows(batch, part);
  if (!OnAnyRank(asks)) return;
  if (asks) {
    cache.Compute(objective_, *reference_, batch, part);
  } else {
    objective_.ReferenceLogps(*reference_, stand_in_);
  }
}

void PrecomputedReference::Replay(int64_t step) {
  const at::NoGradGuard no_grad;
  BatchIterator steps = run_.start;
  for (int64_t s = 1; s < step && OnAnyRank(cache_.num_rows() < run_.num_rows); ++s) {
    for (const Batch& batch : steps.NextStep(run_.micro_batches)) {
      stop_.Check();
      Ask(batch, Part::kOwn, cache_);
    }
  }
}

bool PrecomputedReference::ComputeEpoch(const std::vector<Batch>& batches, BatchIterator rest,
                                        int64_t step) {
  cache_.ForgetMismatched();
  if (run_.wake) run_.wake();
  if (!began_) Replay(step);
  began_ = true;
  Compute(batches, cache_);
  const int64_t epoch = rest.position().epoch;
  while (++step <= run_.max_steps) {
    const std::vector<Batch> next = rest.NextStep(run_.micro_batches);
    if (rest.position().epoch != epoch) return false;
    Compute(next, cache_);
  }
  return true;
}

}  // namespace liger::trainer
