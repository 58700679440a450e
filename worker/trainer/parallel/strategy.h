#ifndef LIGER_WORKER_TRAINER_PARALLEL_STRATEGY_H_
#define LIGER_WORKER_TRAINER_PARALLEL_STRATEGY_H_

#include <ATen/core/Tensor.h>

#include <torch/csrc/distributed/c10d/Backend.hpp>

#include <exception>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "liger/v1/job_spec.pb.h"
#include "worker/trainer/optim/parameters.h"
#include "worker/trainer/optim/precision.h"
#include "worker/trainer/parallel/rank.h"
#include "worker/trainer/parallel/rank_status.h"
#include "worker/trainer/sequence_group.h"

namespace liger::trainer {

// Where parameters are sharded: the ranks that share one copy of the model, and those that hold the
// same part of other copies (none: there is one copy).
struct ShardGroups {
  c10::intrusive_ptr<c10d::Backend> shards, replicas;
  // To be called before each collective, and held while waiting for one; for messages.
  std::function<void()> issued;
  std::function<std::shared_ptr<void>(const char* what)> waiting;
};

// What a training run needs of the other ranks. The loop calls these at the
// same places whatever the strategy, so that a new one changes no loop code:
//
//   counts of the step's targets   SumAcrossRanks, before the first forward
//   gradients                      BeginLastBackward, then ReduceGradients after
//                                  the last backward, under which they may have
//                                  been summed already
//   squared norm of what this      SumAcrossRanks; only a sharding strategy
//   rank holds of the gradient     (norm_is_partial) needs it
//   the step's metrics             SumAcrossRanks of MetricSums::Pack
//
// Ranks of a sequence group have the same rows: counts of rows and of their tokens are summed over
// data_ranks().
//
// All ranks make the same calls in the same order. `what` is for messages ("the
// loss"). Calls that need the others throw as Gang does.
class Strategy {
 public:
  virtual ~Strategy() = default;

  virtual const RankInfo& rank() const = 0;
  bool alone() const { return rank().world_size == 1; }
  // Writes what the job leaves behind, and speaks for it.
  bool leads() const { return rank().rank == 0; }
  // How many ranks in a row have the same rows, each a part of their tokens.
  virtual int sequence_size() const { return 1; }
  // By rows: of how many shares of a micro-batch which is this rank's.
  int data_rank() const { return rank().rank / sequence_size(); }
  int data_ranks() const { return rank().world_size / sequence_size(); }
  // "DDP of 2 ranks, gradients summed in fp32"; empty for one.
  virtual std::string Describe() const = 0;

  // Once the device is known, before tensors on it are summed.
  virtual void OpenDevice(at::Device device) = 0;
  // Once there are parameters, which must outlive this. `finished_before`: entries whose gradient
  // is whole before the last backward pass (TrainableParameters::FinishDirectGradient).
  virtual void Attach(TrainableParameters& parameters,
                      const std::set<size_t>& finished_before) = 0;

  // Element-wise over ranks, in place.
  virtual void SumAcrossRanks(at::Tensor values, const char* what) = 0;
  virtual void MaxAcrossRanks(at::Tensor values, const char* what) = 0;
  // Every rank's text, by rank.
  virtual std::vector<std::string> Gather(const std::string& own, const char* what) = 0;

  // The next backward pass is this rank's last of the step.
  virtual void BeginLastBackward() = 0;
  // Gradients by entry, summed over ranks; objectives scale by the global count, so that nothing
  // is averaged. Undefined where no rank has one.
  virtual std::vector<at::Tensor> ReduceGradients(TrainableParameters& parameters) = 0;
  // True when each rank holds only a shard of every gradient.
  virtual bool norm_is_partial() const = 0;
  // How many ranks hold the same shard.
  virtual int copies() const { return 1; }
  // Not null: the model is to be sharded over these.
  virtual const ShardGroups* shard_groups() const { return nullptr; }
  bool sharded() const { return shard_groups() != nullptr; }
  // Not null: the model is to divide tokens among these (CausalLM::set_sequence_group). Lives as
  // long as this.
  virtual std::shared_ptr<const SequenceGroup> sequence_group() const { return nullptr; }
  // Every pass of the model over a batch is one of all ranks, rows or none.
  bool passes_together() const { return sharded() || sequence_size() > 1; }
  // Throws what an error of a pass of all ranks means, if it is the others'; else the error itself.
  [[noreturn]] virtual void Explain(const std::exception_ptr& error) {
    std::rethrow_exception(error);
  }
  // While it lives, this thread waits for a device on which sums over ranks are queued.
  virtual std::shared_ptr<void> AwaitDevice(const char* what) = 0;

  // Seconds for which this rank's training thread has waited for others so far.
  virtual double WaitedSeconds() const { return 0; }

  // Why this rank ends, for the others. Nothing else follows.
  virtual void Leave(const Farewell& farewell) = 0;
};

// parallel.reduce_dtype: what it says, else bf16 where gradients are kept so, else fp32.
at::ScalarType ReduceDtype(const liger::v1::ParallelSpec& parallel,
                           const PrecisionPlan& precision);

// The strategy of a job: single where WORLD_SIZE is 1, else what parallel.strategy says, DDP by
// default, among all ranks, which meet here (Gang::Join). `on_verdict`: Watch::Options. Throws
// TrainerError (CONFIG) when the ranks are not resources.count, and as Gang::Join.
std::unique_ptr<Strategy> MakeStrategy(const RankInfo& rank, const liger::v1::JobSpec& spec,
                                       std::function<void(const Farewell&)> on_verdict = nullptr);
// Of one rank alone.
std::unique_ptr<Strategy> MakeSingle();

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_PARALLEL_STRATEGY_H_
