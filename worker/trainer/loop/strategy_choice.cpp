#include "worker/trainer/loop/strategy_choice.h"

#include <ATen/DeviceAccelerator.h>

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/bytes.h"
#include "worker/trainer/error.h"
#include "worker/trainer/loop/device.h"
#include "worker/trainer/loop/inputs.h"
#include "worker/trainer/loop/lora_setup.h"
#include "worker/trainer/models/registry.h"
#include "worker/trainer/objectives/objective.h"

namespace liger::trainer {
namespace {

int64_t SizeOf(at::ScalarType dtype) { return static_cast<int64_t>(c10::elementSize(dtype)); }

// Of a trained element.
double StateBytes(const std::string& optimizer, const PrecisionPlan& precision) {
  const auto state = static_cast<double>(SizeOf(precision.optimizer));
  if (optimizer == "adamw_8bit") return 2 + 8.0 / 256;
  if (optimizer == "adafactor") return 0;  // a row and a column of a matrix
  return optimizer == "lion" || optimizer == "sgd" ? state : 2 * state;
}

// What is left out here takes the whole model on each device.
bool KnownToFsdp(const liger::v1::JobSpec& spec) {
  return spec.training().optim() != "adafactor" && !spec.dpo().sync_ref_model() &&
         !spec.dpo().precompute_ref_log_probs() && !spec.kto().precompute_ref_log_probs();
}

}  // namespace

int64_t WholeModelBytes(const CausalLM& model, const liger::v1::JobSpec& spec,
                        const PrecisionPlan& precision) {
  double trained = 0, frozen = 0;
  for (const auto& parameter : model.parameters()) {
    (parameter.requires_grad() ? trained : frozen) += static_cast<double>(parameter.numel());
  }
  const double copy = precision.has_compute_copy() ? double(SizeOf(precision.compute)) : 0;
  const double each = double(SizeOf(precision.storage)) + copy +
                      double(SizeOf(precision.gradient)) +
                      StateBytes(spec.training().optim(), precision);
  const auto objective = MakeObjective(spec);
  const bool reference = objective->NeedsReference() && !spec.has_lora();
  const double compute = double(SizeOf(precision.compute));
  return static_cast<int64_t>(trained * each + frozen * compute +
                              (reference ? (trained + frozen) * compute : 0));
}

liger::v1::ParallelStrategy ChooseStrategy(const Request& request, const RankInfo& rank,
                                           std::string* why) {
  const liger::v1::JobSpec& spec = request.spec();
  const auto named = spec.parallel().strategy();
  if (named != liger::v1::PARALLEL_STRATEGY_UNSPECIFIED || rank.world_size == 1) return named;
  const bool on_gpu = spec.resources().device_kind() == liger::v1::DEVICE_KIND_CUDA;
  if (!on_gpu || !KnownToFsdp(spec)) return liger::v1::PARALLEL_STRATEGY_DDP;
  const Device device = Device::Open(spec.resources().device_kind(), rank.local_rank);
  const auto [free, total] = at::accelerator::getMemoryInfo(device.torch().index());
  const InputPaths paths = InputPaths::Resolve(request);
  const auto model =
      BuildModel(ModelConfig::FromFolder(paths.model_dir), spec.kernels(), at::kMeta);
  if (spec.has_lora()) {
    const LoraSetup lora = LoraSetup::Find(spec.lora(), paths.adapter_dir, *model);
    AttachAdapters(*model, lora.targets, at::kFloat);
  }
  const int64_t whole = WholeModelBytes(*model, spec, ResolvePrecision(spec.training(), on_gpu));
  const bool fits = static_cast<double>(whole) <= kWholeModelShare * static_cast<double>(total);
  *why = std::string("parallel.strategy: ") + (fits ? "DDP" : "FSDP") +
         ", since parameters, gradients and optimizer states of the whole model take " +
         Bytes(whole) + ", and a device has " + Bytes(static_cast<int64_t>(total));
  return fits ? liger::v1::PARALLEL_STRATEGY_DDP : liger::v1::PARALLEL_STRATEGY_FSDP;
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
