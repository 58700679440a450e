#ifndef LIGER_COMMON_SPEC_MEMORY_NEEDS_H_
#define LIGER_COMMON_SPEC_MEMORY_NEEDS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "google/protobuf/map.h"
#include "liger/v1/job_spec.pb.h"

namespace liger {

// What one rank of a job holds, in bytes, as a trainer's CHECK predicts it from shapes
// (docs/parallelism.md).
struct MemoryNeed {
  // On its device whatever the batch: parameters, gradients, optimizer states, a live
  // reference, and what is gathered of shards. A device that has less cannot take it.
  int64_t least = 0;
  // On its device, with as many rows of training.max_length as a micro-batch may have;
  // 0: not predicted. Rows may be shorter.
  int64_t peak = 0;
  // In its host's memory (parallel.cpu_offload, a precomputed reference of shards).
  int64_t host = 0;
};

struct RankMemoryNeed {
  liger::v1::ParallelStrategy strategy = liger::v1::PARALLEL_STRATEGY_UNSPECIFIED;
  int world_size = 1;
  MemoryNeed need;
};

// A job's needs by strategy and world size, and how they travel: as entries of
// CheckResult.stats ("ddp_2_least_bytes", "ddp_2_peak_bytes").
class MemoryNeeds {
 public:
  using Stats = google::protobuf::Map<std::string, int64_t>;

  static MemoryNeeds FromStats(const Stats& stats);
  void AddTo(Stats* stats) const;
  // Of each number the greater: of several predictions for one job.
  void RaiseTo(const MemoryNeeds& other);

  void Set(liger::v1::ParallelStrategy strategy, int world_size, const MemoryNeed& need);
  // With parallel.shard FULL over all ranks, for those who look for a remedy.
  void SetFullyShared(int world_size, const MemoryNeed& need);

  // Of the job as it is on `world_size` devices of which each has so many bytes: by
  // parallel.strategy, or by the rule of ChosenStrategy. nullopt: not known.
  std::optional<RankMemoryNeed> Of(const liger::v1::JobSpec& resolved, int world_size,
                                   int64_t device_bytes) const;
  // On the fewest devices of so many bytes that hold the least of it, shared over all of
  // them (FSDP); nullopt: no number that was looked at.
  std::optional<RankMemoryNeed> FullySharedOn(int64_t device_bytes) const;

  bool empty() const { return needs_.empty(); }

 private:
  using Key = std::pair<liger::v1::ParallelStrategy, int>;
  std::map<Key, MemoryNeed> needs_;
  std::map<int, MemoryNeed> fully_shared_;  // by world size
};

// Numbers of devices for which SetFullyShared is of use.
inline constexpr int kFullySharedSizes[] = {2, 4, 8, 16, 32, 64};

// Where parallel.strategy says nothing: of several GPUs DDP if the least of the whole model
// is at most kWholeModelShare of a device, else FSDP.
inline constexpr double kWholeModelShare = 0.8;
liger::v1::ParallelStrategy ChosenStrategy(int64_t whole_model_bytes, int64_t device_bytes);

// What to change where a device does not hold the least of a rank. `shared`: what
// FullySharedOn found for that device.
std::string LeastMemoryRemedy(const liger::v1::JobSpec& resolved,
                              liger::v1::ParallelStrategy strategy,
                              const std::optional<RankMemoryNeed>& shared);
// What to say where a device holds the least, but not the peak.
std::string PeakAdvice(const liger::v1::JobSpec& resolved, int64_t peak, int64_t device_bytes);

// "SINGLE", "DDP", "FSDP".
std::string StrategyName(liger::v1::ParallelStrategy strategy);

}  // namespace liger

#endif  // LIGER_COMMON_SPEC_MEMORY_NEEDS_H_
