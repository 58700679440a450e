#include "worker/trainer/parallel/strategy.h"

#include <algorithm>
#include <utility>

#include "worker/trainer/error.h"
#include "worker/trainer/parallel/ddp.h"
#include "worker/trainer/parallel/fsdp.h"

namespace liger::trainer {
namespace {

class Single : public Strategy {
 public:
  const RankInfo& rank() const override { return rank_; }
  std::string Describe() const override { return ""; }
  void OpenDevice(at::Device) override {}
  void Attach(TrainableParameters&, const std::set<size_t>&) override {}
  void SumAcrossRanks(at::Tensor, const char*) override {}
  void MaxAcrossRanks(at::Tensor, const char*) override {}
  std::vector<std::string> Gather(const std::string& own, const char*) override { return {own}; }
  void BeginLastBackward() override {}
  std::vector<at::Tensor> ReduceGradients(TrainableParameters& parameters) override {
    return parameters.Gradients();
  }
  bool norm_is_partial() const override { return false; }
  std::shared_ptr<void> AwaitDevice(const char*) override { return nullptr; }
  void Leave(const Farewell&) override {}

 private:
  const RankInfo rank_;
};

void RequireAllRanks(const RankInfo& rank, const liger::v1::JobSpec& spec) {
  const int count = std::max(1, spec.resources().count());
  if (count == rank.world_size) return;
  const std::string ranks = std::to_string(count);
  throw ConfigError(
      "resources.count: is " + ranks + ", and WORLD_SIZE is " + std::to_string(rank.world_size),
      count == 1 ? "set resources.count to the number of ranks, or start one without WORLD_SIZE"
                 : "start " + ranks + " ranks, as `torchrun --no-python --nproc-per-node " + ranks +
                       " liger-trainer --spec FILE` does, or set resources.count to 1")
      .Field("resources.count");
}

}  // namespace

at::ScalarType ReduceDtype(const liger::v1::ParallelSpec& parallel,
                           const PrecisionPlan& precision) {
  switch (parallel.reduce_dtype()) {
    case liger::v1::DTYPE_UNSPECIFIED:
      return precision.gradient == at::kBFloat16 ? at::kBFloat16 : at::kFloat;
    case liger::v1::DTYPE_BF16: return at::kBFloat16;
    default: return at::kFloat;
  }
}

std::unique_ptr<Strategy> MakeSingle() { return std::make_unique<Single>(); }

std::unique_ptr<Strategy> MakeStrategy(const RankInfo& rank, const liger::v1::JobSpec& spec,
                                       std::function<void(const Farewell&)> on_verdict) {
  RequireAllRanks(rank, spec);
  const bool fsdp = spec.parallel().strategy() == liger::v1::PARALLEL_STRATEGY_FSDP;
  if (rank.world_size == 1 && !fsdp) return MakeSingle();
  Gang::Options options;
  options.limits = WatchLimits::FromEnvironment();
  options.on_verdict = std::move(on_verdict);
  const bool on_gpu = spec.resources().device_kind() == liger::v1::DEVICE_KIND_CUDA;
  const at::ScalarType reduce =
      ReduceDtype(spec.parallel(), ResolvePrecision(spec.training(), on_gpu));
  const int sequence_size = std::max(1, spec.parallel().sequence_parallel_size());
  if (fsdp) return MakeFsdp(Gang::Join(rank, options), spec.parallel(), reduce, sequence_size);
  return MakeDdp(Gang::Join(rank, options), {.dtype = reduce}, sequence_size);
}

}  // namespace liger::trainer
