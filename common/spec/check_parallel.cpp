#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/spec/checks.h"

namespace liger {
namespace {

using google::protobuf::FieldDescriptor;

constexpr int kMaxDevices = 1024;
constexpr Checks::Range kRanges[] = {
    {"resources.count", 1, false, kMaxDevices, false},
    {"parallel.hybrid_shard_size", 1, false, kMaxDevices, false},
    {"parallel.sequence_parallel_size", 1, false, kMaxDevices, false},
};

// Fields of ParallelSpec that say something whatever the strategy.
bool IsGeneral(const std::string& name) {
  return name == "strategy" || name == "reduce_dtype" || name == "elastic" ||
         name == "sequence_parallel_size";
}

void CheckStrategy(Checks& checks) {
  const auto& parallel = checks.spec().parallel();
  const int count = checks.spec().resources().count();
  if (parallel.strategy() == liger::v1::PARALLEL_STRATEGY_SINGLE && count > 1) {
    checks.Add("parallel.strategy",
               absl::StrCat("SINGLE trains on one device, resources.count is ", count,
                            "; use DDP or FSDP, or set resources.count to 1"));
  }
  const auto& resources = checks.spec().resources();
  if (parallel.strategy() == liger::v1::PARALLEL_STRATEGY_UNSPECIFIED && count > 1 &&
      resources.allow_mixed_devices() &&
      resources.device_kind() == liger::v1::DEVICE_KIND_CUDA) {
    checks.Add("parallel.strategy",
               "is chosen by a device's memory, of which a gang of mixed GPUs has several sizes "
               "(resources.allow_mixed_devices); set DDP or FSDP");
  }
  if (parallel.strategy() == liger::v1::PARALLEL_STRATEGY_FSDP) return;
  std::vector<const FieldDescriptor*> given;
  parallel.GetReflection()->ListFields(parallel, &given);
  for (const FieldDescriptor* field : given) {
    const std::string name(field->name());
    if (IsGeneral(name)) continue;
    checks.Add("parallel." + name,
               "is an option of FSDP; set parallel.strategy to FSDP, or remove it");
  }
}

// Groups of ranks are equally large.
void CheckGroups(Checks& checks) {
  const auto& parallel = checks.spec().parallel();
  const int count = std::max(1, checks.spec().resources().count());
  const auto divides = [&](const char* field, int size) {
    if (size <= 0 || count % size == 0) return;
    checks.Add(field, absl::StrCat(size, " does not divide resources.count, which is ", count));
  };
  divides("parallel.hybrid_shard_size", parallel.hybrid_shard_size());
  divides("parallel.sequence_parallel_size", parallel.sequence_parallel_size());
}

void CheckReduceDtype(Checks& checks) {
  const auto dtype = checks.spec().parallel().reduce_dtype();
  if (dtype == liger::v1::DTYPE_FP16) {
    checks.Add("parallel.reduce_dtype",
               "DTYPE_FP16 overflows in sums of gradients; use FP32 or BF16");
  }
}

// Passes of a reference before training are not those of all ranks.
void CheckSequenceParallel(Checks& checks) {
  const auto& spec = checks.spec();
  if (spec.parallel().sequence_parallel_size() <= 1) return;
  const auto refuse = [&](const char* field) {
    checks.Add(field, "is not available with parallel.sequence_parallel_size in this version; "
                      "remove one of them");
  };
  if (spec.dpo().precompute_ref_log_probs()) refuse("dpo.precompute_ref_log_probs");
  if (spec.kto().precompute_ref_log_probs()) refuse("kto.precompute_ref_log_probs");
}

}  // namespace

void CheckParallel(Checks& checks) {
  CheckStrategy(checks);
  CheckGroups(checks);
  CheckReduceDtype(checks);
  CheckSequenceParallel(checks);
  checks.InRanges(kRanges);
  if (!checks.spec().resources().placement_group().empty()) {
    checks.Add("resources.placement_group", "is not available in this version; remove it");
  }
}

}  // namespace liger
