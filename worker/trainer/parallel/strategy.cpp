#include "worker/trainer/parallel/strategy.h"

#include <string>

#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

class Single : public Strategy {
 public:
  explicit Single(const RankInfo& rank) : rank_(rank) {}

  const RankInfo& rank() const override { return rank_; }
  void SumAcrossRanks(at::Tensor values) override {}
  void ReduceGradients(const std::vector<at::Tensor>& grads) override {}
  bool norm_is_partial() const override { return false; }
  void Barrier() override {}

 private:
  RankInfo rank_;
};

}  // namespace

std::unique_ptr<Strategy> MakeStrategy(const RankInfo& rank) {
  if (rank.world_size > 1) {
    throw ConfigError("WORLD_SIZE=" + std::to_string(rank.world_size) +
                          ": training on more than one device (DDP, FSDP) is not available yet",
                      "set resources.count to 1")
        .Field("resources.count");
  }
  return std::make_unique<Single>(rank);
}

}  // namespace liger::trainer
