#include "common/spec/memory_needs.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/bytes.h"
#include "common/spec/less_memory.h"

namespace liger {
namespace {

using liger::v1::ParallelStrategy;

constexpr char kFullyShared[] = "shared";
constexpr ParallelStrategy kStrategies[] = {liger::v1::PARALLEL_STRATEGY_SINGLE,
                                            liger::v1::PARALLEL_STRATEGY_DDP,
                                            liger::v1::PARALLEL_STRATEGY_FSDP};

struct Part {
  const char* name;
  int64_t MemoryNeed::*bytes;
};
constexpr Part kParts[] = {{"least_bytes", &MemoryNeed::least},
                           {"peak_bytes", &MemoryNeed::peak},
                           {"host_bytes", &MemoryNeed::host}};

template <typename Map>
void RaiseEach(const Map& other, Map* needs) {
  for (const auto& [key, need] : other) {
    MemoryNeed& own = (*needs)[key];
    for (const Part& part : kParts) {
      own.*part.bytes = std::max(own.*part.bytes, need.*part.bytes);
    }
  }
}

void AddNeed(const std::string& strategy, int world_size, const MemoryNeed& need,
             MemoryNeeds::Stats* stats) {
  for (const Part& part : kParts) {
    if (need.*part.bytes == 0) continue;
    (*stats)[absl::StrCat(strategy, "_", world_size, "_", part.name)] = need.*part.bytes;
  }
}

}  // namespace

MemoryNeeds MemoryNeeds::FromStats(const Stats& stats) {
  MemoryNeeds needs;
  for (const auto& [name, bytes] : stats) {
    for (const Part& part : kParts) {
      absl::string_view rest = name;
      if (!absl::ConsumeSuffix(&rest, part.name)) continue;
      const std::vector<std::string> words = absl::StrSplit(rest, '_');
      int world_size = 0;
      if (words.size() != 3 || !absl::SimpleAtoi(words[1], &world_size)) continue;
      if (words[0] == kFullyShared) needs.fully_shared_[world_size].*part.bytes = bytes;
      for (const ParallelStrategy strategy : kStrategies) {
        if (words[0] != absl::AsciiStrToLower(StrategyName(strategy))) continue;
        needs.needs_[{strategy, world_size}].*part.bytes = bytes;
      }
    }
  }
  return needs;
}

void MemoryNeeds::AddTo(Stats* stats) const {
  for (const auto& [key, need] : needs_) {
    AddNeed(absl::AsciiStrToLower(StrategyName(key.first)), key.second, need, stats);
  }
  for (const auto& [world_size, need] : fully_shared_) {
    AddNeed(kFullyShared, world_size, need, stats);
  }
}

void MemoryNeeds::RaiseTo(const MemoryNeeds& other) {
  RaiseEach(other.needs_, &needs_);
  RaiseEach(other.fully_shared_, &fully_shared_);
}

void MemoryNeeds::Set(ParallelStrategy strategy, int world_size, const MemoryNeed& need) {
  needs_[{strategy, world_size}] = need;
}

void MemoryNeeds::SetFullyShared(int world_size, const MemoryNeed& need) {
  fully_shared_[world_size] = need;
}

std::optional<RankMemoryNeed> MemoryNeeds::Of(const liger::v1::JobSpec& resolved, int world_size,
                                              int64_t device_bytes) const {
  ParallelStrategy strategy = resolved.parallel().strategy();
  if (strategy == liger::v1::PARALLEL_STRATEGY_UNSPECIFIED) {
    strategy = world_size == 1 ? liger::v1::PARALLEL_STRATEGY_SINGLE
                               : liger::v1::PARALLEL_STRATEGY_DDP;
    const auto whole = needs_.find({strategy, world_size});
    if (world_size > 1 && whole != needs_.end() &&
        resolved.resources().device_kind() == liger::v1::DEVICE_KIND_CUDA) {
      strategy = ChosenStrategy(whole->second.least, device_bytes);
    }
  }
  const auto found = needs_.find({strategy, world_size});
  if (found == needs_.end()) return std::nullopt;
  return RankMemoryNeed{strategy, world_size, found->second};
}

std::optional<RankMemoryNeed> MemoryNeeds::FullySharedOn(int64_t device_bytes) const {
  for (const auto& [world_size, need] : fully_shared_) {
    if (need.least > device_bytes) continue;
    return RankMemoryNeed{liger::v1::PARALLEL_STRATEGY_FSDP, world_size, need};
  }
  return std::nullopt;
}

ParallelStrategy ChosenStrategy(int64_t whole_model_bytes, int64_t device_bytes) {
  const bool fits = static_cast<double>(whole_model_bytes) <=
                    kWholeModelShare * static_cast<double>(device_bytes);
  return fits ? liger::v1::PARALLEL_STRATEGY_DDP : liger::v1::PARALLEL_STRATEGY_FSDP;
}

std::string LeastMemoryRemedy(const liger::v1::JobSpec& resolved, ParallelStrategy strategy,
                              const std::optional<RankMemoryNeed>& shared) {
  const auto& parallel = resolved.parallel();
  const bool fsdp = strategy == liger::v1::PARALLEL_STRATEGY_FSDP;
  const int count = std::max(1, resolved.resources().count());
  std::vector<std::string> ways;
  if (shared && shared->world_size <= count) {
    ways.push_back(fsdp ? "leave parallel.shard and hybrid_shard_size out"
                        : "set parallel.strategy FSDP");
  } else if (shared) {
    ways.push_back(absl::StrCat(fsdp ? "" : "set parallel.strategy FSDP and ", "resources.count ",
                                shared->world_size, " (", Bytes(shared->need.least),
                                " on each)"));
  } else {
    ways.push_back(fsdp ? "raise resources.count"
                        : "use parallel.strategy FSDP over several devices (resources.count)");
  }
  if (fsdp && !parallel.cpu_offload()) ways.push_back("set parallel.cpu_offload");
  const auto precision = resolved.training().precision();
  if (precision == liger::v1::PRECISION_FP32 || precision == liger::v1::PRECISION_BF16_MIXED) {
    ways.push_back("use training.precision BF16_STOCHASTIC");
  }
  if (!resolved.has_lora()) ways.push_back("use lora");
  ways.push_back("use a device with more memory");
  const std::string last = ways.back();
  ways.pop_back();
  return absl::StrCat(absl::StrJoin(ways, ", "), " or ", last);
}

std::string PeakAdvice(const liger::v1::JobSpec& resolved, int64_t peak, int64_t device_bytes) {
  const auto& training = resolved.training();
  return absl::StrCat(training.per_device_train_batch_size(), " rows of ", training.max_length(),
                      " tokens (max_length) are predicted to take ", Bytes(peak),
                      " of a device that has ", Bytes(device_bytes), "; unless rows are shorter, ",
                      LessDeviceMemory({&resolved}));
}

std::string StrategyName(ParallelStrategy strategy) {
  return std::string(
      absl::StripPrefix(liger::v1::ParallelStrategy_Name(strategy), "PARALLEL_STRATEGY_"));
}

}  // namespace liger
