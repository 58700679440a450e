#ifndef LIGER_WORKER_TRAINER_PARALLEL_GRADIENT_REDUCER_H_
#define LIGER_WORKER_TRAINER_PARALLEL_GRADIENT_REDUCER_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <set>
#include <vector>

#include "worker/trainer/optim/parameters.h"
#include "worker/trainer/parallel/gang.h"

namespace liger::trainer {

// Sums a step's gradients over ranks, in buckets, while the backward pass goes on (Li et al. 2020,
// arXiv:2006.15704). Buckets hold parameters in reversed order, in which a backward pass finishes
// them, and are sent in that order whatever the order in which they fill, so that all ranks send
// the same. A parameter that got no gradient here counts as zero; one that got none on any rank
// has none.
//
// Not c10d's Reducer: that one averages, keeps gradients in its own buckets in the parameters'
// dtype (ours add up in the gradient dtype, and a fused head adds its own without autograd), must
// be told before each forward which parameters the graph will reach, and takes part in every
// backward pass with a rank that has no rows as an error.
class GradientReducer {
 public:
  struct Options {
    at::ScalarType dtype = at::kFloat;          // in which they are summed
    int64_t bucket_bytes = int64_t{25} << 20;  // a larger gradient has a bucket of its own
    // Entries whose gradient is whole before the backward pass (a fused head's,
    // FinishDirectGradient): that autograd passes by them means nothing.
    std::set<size_t> finished_before;
  };

  // `parameters` and `gang` must outlive this, which listens to the gradients.
  GradientReducer(TrainableParameters& parameters, Gang& gang, const Options& options);
  ~GradientReducer();
  GradientReducer(const GradientReducer&) = delete;

  // The backward pass that comes next is this rank's last of the step.
  void BeginLastBackward() { armed_ = true; }
  // After it (or without one, on a rank that has no rows): waits for all sums and returns them as
  // TrainableParameters::Gradients does.
  std::vector<at::Tensor> Finish();

  int64_t num_buckets() const { return std::ssize(buckets_); }
  // Of the last step: those that were sent before the backward pass had ended.
  int64_t sent_early() const { return sent_early_last_; }

 private:
  struct Slot {
    size_t index;  // of the entry
    int64_t begin, numel;
  };
  struct Bucket {
    std::vector<Slot> slots;
    int64_t numel = 0;
    size_t unfinished = 0;  // gradients that are not whole yet
    at::Tensor flat;
    Gang::Pending sum;
  };

  void MakeBuckets();
  void OnGradient(size_t index);
  void Send(Bucket& bucket);
  // How many ranks have a gradient of each entry.
  at::Tensor CountPresent();
  void Take(Bucket& bucket, const at::Tensor& present);
  at::Tensor View(const Bucket& bucket, const Slot& slot) const;

  TrainableParameters& parameters_;
  Gang& gang_;
  const Options options_;
  std::vector<Bucket> buckets_;
  std::vector<size_t> bucket_of_;  // by entry
  std::vector<bool> whole_, present_;
  bool armed_ = false;
  size_t sent_ = 0;  // buckets
  int64_t sent_early_ = 0, sent_early_last_ = 0;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_PARALLEL_GRADIENT_REDUCER_H_
