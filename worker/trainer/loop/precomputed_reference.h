#ifndef LIGER_WORKER_TRAINER_LOOP_PRECOMPUTED_REFERENCE_H_
#define LIGER_WORKER_TRAINER_LOOP_PRECOMPUTED_REFERENCE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "worker/trainer/data/sampler.h"
#include "worker/trainer/loop/stop.h"
#include "worker/trainer/objectives/precompute.h"

namespace liger::trainer {

// The log-probabilities of a run whose objective asks its reference before training and not
// in each step: an epoch's when that epoch begins. A reference that nobody will ask again is
// freed; else (KTO's mismatched answers and the rows of a weighted mix are others in each
// epoch) it waits in the host's memory.
class PrecomputedReference {
 public:
  struct Run {
    int64_t num_rows = 0;  // of the training set
    // Where the run began. One that goes on asks about each row in the batch that it was in
    // first, too: in another one the last bits may differ.
    BatchIterator start;
    int64_t micro_batches = 1;
    int64_t max_steps = 0;
    // Before it is asked, and once it will not be asked for a while: brings what it has of its own
    // to the device and gives that memory back. None: it has none.
    std::function<void()> wake, park;
    // Where ranks share the reference every pass is one of all of them: whether `own` is true on
    // any of them, the same on all. None: each rank asks for itself.
    std::function<bool(bool own)> on_any_rank;
  };

  // `objective` and `stop` must outlive this.
  PrecomputedReference(const Objective& objective, std::shared_ptr<CausalLM> reference,
                       const Run& run, const StopFlag& stop);

  // Asks about the evaluation set.
  void AttachToEvaluation(std::vector<Batch>& batches);
  // To those of `step`; `rest` deals out what comes after them. Asks about what is left of
  // their epoch first when they are not known.
  void AttachToStep(std::vector<Batch>& batches, const BatchIterator& rest, int64_t step);

  bool holds_reference() const { return reference_ != nullptr; }

 private:
  using Part = ReferenceLogpCache::Part;

  bool OnAnyRank(bool own) const { return run_.on_any_rank ? run_.on_any_rank(own) : own; }
  void Compute(const std::vector<Batch>& batches, ReferenceLogpCache& cache);
  // Of one batch, or of a row made up where only other ranks have something to ask.
  void Ask(const Batch& batch, Part part, ReferenceLogpCache& cache);
  // Own answers of the steps before `step`.
  void Replay(int64_t step);
  // What is left of the epoch of `batches`; true when the run ends with it.
  bool ComputeEpoch(const std::vector<Batch>& batches, BatchIterator rest, int64_t step);
  const Objective& objective_;
  std::shared_ptr<CausalLM> reference_;
  const Run run_;
  const StopFlag& stop_;
  const Batch stand_in_;
  ReferenceLogpCache cache_;  // of training rows
  bool began_ = false;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_PRECOMPUTED_REFERENCE_H_
