#include "worker/trainer/loop/strategy_choice.h"

#include <ATen/DeviceAccelerator.h>

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/bytes.h"
#include "common/host_resources.h"
#include "common/spec/elastic.h"
#include "worker/trainer/error.h"
#include "worker/trainer/loop/device.h"
#include "worker/trainer/loop/inputs.h"
#include "worker/trainer/loop/lora_setup.h"
#include "worker/trainer/models/registry.h"
#include "worker/trainer/objectives/objective.h"

namespace liger::trainer {
namespace {

using liger::v1::JobSpec;

bool OnGpu(const JobSpec& spec) {
  return spec.resources().device_kind() == liger::v1::DEVICE_KIND_CUDA;
}

// Of the job's shape, without memory.
std::shared_ptr<CausalLM> ShapeOf(const Request& request) {
  const JobSpec& spec = request.spec();
  const InputPaths paths = InputPaths::Resolve(request);
  auto model = BuildModel(ModelConfig::FromFolder(paths.model_dir), spec.kernels(), at::kMeta);
  if (spec.has_lora()) {
    const LoraSetup lora = LoraSetup::Find(spec.lora(), paths.adapter_dir, *model);
    AttachAdapters(*model, lora.targets, at::kFloat);
  }
  return model;
}

int64_t DeviceBytes(const JobSpec& spec, const RankInfo& rank) {
  const Device device = Device::Open(spec.resources().device_kind(), rank.local_rank);
  return static_cast<int64_t>(at::accelerator::getMemoryInfo(device.torch().index()).second);
}

}  // namespace

int64_t WholeModelBytes(const CausalLM& model, const JobSpec& spec,
                        const PrecisionPlan& precision) {
  JobSpec whole = spec;
  whole.clear_parallel();
  const MemoryPlan plan = PlanMemory(model, whole, precision, /*ranks=*/1);
  return plan.resting + plan.gradients;
}

liger::v1::ParallelStrategy ChooseStrategy(const Request& request, const RankInfo& rank,
                                           std::string* why) {
  const JobSpec& spec = request.spec();
  const auto named = spec.parallel().strategy();
  if (named != liger::v1::PARALLEL_STRATEGY_UNSPECIFIED || rank.world_size == 1) return named;
  if (!OnGpu(spec)) return liger::v1::PARALLEL_STRATEGY_DDP;
  const int64_t total = DeviceBytes(spec, rank);
  const int64_t whole = WholeModelBytes(*ShapeOf(request), spec,
                                        ResolvePrecision(spec.training(), /*on_gpu=*/true));
  const auto chosen = ChosenStrategy(whole, total);
  *why = "parallel.strategy: " + StrategyName(chosen) +
         ", since parameters, gradients and optimizer states of the whole model take " +
         Bytes(whole) + ", and a device has " + Bytes(total);
  return chosen;
}

MemoryNeeds NeedsOf(const Request& request) {
  const PrecisionPlan precision =
      ResolvePrecision(request.spec().training(), OnGpu(request.spec()));
  const std::shared_ptr<CausalLM> model = ShapeOf(request);
  const auto need_of = [&](JobSpec spec, liger::v1::ParallelStrategy strategy, int ranks) {
    spec.mutable_parallel()->set_strategy(strategy);
    const MemoryPlan plan = PlanMemory(*model, spec, precision, ranks);
    return MemoryNeed{.least = plan.resting + plan.gradients,
                      .peak = plan.peak.value_or(0),
                      .host = plan.host};
  };
  MemoryNeeds needs;
  for (const int size : WorldSizes(request.spec(), /*again=*/true)) {
    const JobSpec spec = OnDevices(request.spec(), size);
    std::vector<liger::v1::ParallelStrategy> strategies = {spec.parallel().strategy()};
    if (strategies[0] == liger::v1::PARALLEL_STRATEGY_UNSPECIFIED) {
      if (size == 1) {
        strategies = {liger::v1::PARALLEL_STRATEGY_SINGLE};
      } else {
        strategies = {liger::v1::PARALLEL_STRATEGY_DDP};
        if (OnGpu(spec)) strategies.push_back(liger::v1::PARALLEL_STRATEGY_FSDP);
      }
    }
    for (const auto strategy : strategies) needs.Set(strategy, size, need_of(spec, strategy, size));
  }
  if (OnGpu(request.spec())) {
    JobSpec shared = request.spec();
    shared.clear_parallel();
    for (const int size : kFullySharedSizes) {
      needs.SetFullyShared(size, need_of(shared, liger::v1::PARALLEL_STRATEGY_FSDP, size));
    }
  }
  return needs;
}

void RequireFits(const MemoryPlan& plan, const JobSpec& spec, const RankMemory& there) {
  const int64_t least = plan.resting + plan.gradients;
  if (there.device && least > *there.device) {
    throw ConfigError("parallel.strategy: a rank holds " + Bytes(least) +
                          " of parameters, gradients and optimizer states, before any activation, "
                          "and its device has " + Bytes(*there.device) + " for programs",
                      LeastMemoryRemedy(spec, spec.parallel().strategy(), std::nullopt))
        .Field("parallel.strategy");
  }
  const int64_t on_host = plan.host * there.ranks_on_host;
  if (there.host && on_host > *there.host) {
    throw ConfigError("parallel.cpu_offload: the " + std::to_string(there.ranks_on_host) +
                          " ranks of this host hold " + Bytes(on_host) +
                          " in its memory, of which " + Bytes(*there.host) + " are free",
                      "raise resources.count over more hosts, or leave cpu_offload out")
        .Field("parallel.cpu_offload");
  }
}

std::optional<liger::v1::Warning> PeakWarning(const MemoryPlan& plan, const JobSpec& spec,
                                              const RankMemory& there) {
  if (!plan.peak || !there.device || *plan.peak <= *there.device) return std::nullopt;
  liger::v1::Warning warning;
  warning.set_code("DeviceMemory");
  warning.set_field("training.per_device_train_batch_size");
  warning.set_message(PeakAdvice(spec, *plan.peak, *there.device));
  return warning;
}

std::optional<liger::v1::Warning> HostWarning(const MemoryPlan& plan, const JobSpec& spec,
                                              const RankMemory& there) {
  const int64_t bytes = (plan.host + plan.host_activations) * there.ranks_on_host;
  if (plan.host_activations == 0 || !there.host || bytes <= *there.host) return std::nullopt;
  liger::v1::Warning warning;
  warning.set_code("HostMemory");
  warning.set_field("training.activation_offloading");
  warning.set_message(
      absl::StrCat("training.activation_offloading: with rows of ", spec.training().max_length(),
                   " tokens (max_length) the ", there.ranks_on_host,
                   " ranks of this host are predicted to hold ", Bytes(bytes),
                   " in its memory, of which ", Bytes(*there.host),
                   " are free; unless rows are shorter, leave activation_offloading out, or lower "
                   "per_device_train_batch_size or max_length"));
  return warning;
}

std::optional<PlannedMemory> RequireFits(const Request& request, const RankInfo& rank,
                                         const JobSpec& spec) {
  // A CPU's memory is looked at by use.
  if (!OnGpu(spec) && !spec.parallel().cpu_offload()) return std::nullopt;
  RankMemory there{.ranks_on_host = rank.local_world_size};
  if (OnGpu(spec)) there.device = DeviceBytes(spec, rank);
  const std::optional<int64_t> used = UsedMemoryBytes();
  if (used) there.host = AvailableMemoryBytes() - *used;
  const PrecisionPlan precision = ResolvePrecision(spec.training(), OnGpu(spec));
  const MemoryPlan plan = PlanMemory(*ShapeOf(request), spec, precision, rank.world_size);
  RequireFits(plan, spec, there);
  return PlannedMemory{plan, there};
}

void RequireHeadsForAllRanks(const liger::v1::ParallelSpec& parallel, const ModelConfig& config) {
  const int64_t size = std::max(1, parallel.sequence_parallel_size());
  const int64_t heads = config.num_attention_heads;
  if (heads % size == 0) return;
  std::vector<int64_t> fitting;
  for (int64_t ranks = 1; ranks <= heads; ++ranks) {
    if (heads % ranks == 0) fitting.push_back(ranks);
  }
  throw ConfigError(absl::StrCat("parallel.sequence_parallel_size: ", size, " does not divide the ",
                                 heads, " query heads of the model (num_attention_heads), which "
                                 "its ranks share"),
                    absl::StrCat("use one of ", absl::StrJoin(fitting, ", ")))
      .Field("parallel.sequence_parallel_size");
}

}  // namespace liger::trainer
