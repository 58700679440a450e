#include "worker/trainer/parallel/fsdp.h"

#include <optional>
#include <string>
#include <utility>

#include "worker/trainer/parallel/sequence_ranks.h"

namespace liger::trainer {
namespace {

class Fsdp : public Strategy {
 public:
  Fsdp(std::unique_ptr<Gang> gang, const liger::v1::ParallelSpec& parallel, at::ScalarType reduce,
       int sequence_size)
      : gang_(std::move(gang)),
        parallel_(parallel),
        reduce_(reduce),
        sequence_size_(sequence_size) {
    const int ranks = gang_->rank().world_size;
    shards_ = parallel_.hybrid_shard_size() > 0 ? parallel_.hybrid_shard_size() : ranks;
  }

  const RankInfo& rank() const override { return gang_->rank(); }
  int sequence_size() const override { return sequence_size_; }
  std::string Describe() const override {
    std::string text = "FSDP of " + std::to_string(rank().world_size) + " ranks" +
                       DescribeSequenceGroups(sequence_size_) + ", ";
    text += parallel_.shard() == liger::v1::SHARD_KIND_OPTIMIZER
                ? "gradients and optimizer states sharded"
                : "parameters, gradients and optimizer states sharded";
    if (copies() > 1) text += " over " + std::to_string(shards_) + " of them";
    return text + ", gradients summed in " +
           (reduce_ == at::kBFloat16 ? "bf16" : "fp32");
  }
  void OpenDevice(at::Device device) override {
    gang_->OpenDevice(device);
    on_gpu_ = !device.is_cpu();
    sequence_group_ = MakeSequenceGroup(*gang_, sequence_size_);
    const int copy = rank().rank / shards_, place = rank().rank % shards_;
    groups_.emplace();
    groups_->issued = [gang = gang_.get()] { gang->NoteIssued(); };
    groups_->waiting = [gang = gang_.get()](const char* what) { return gang->WaitForIssued(what); };
    groups_->shards = gang_->MakeGroup("shards" + std::to_string(copy), place, shards_);
    if (copies() == 1) return;
    groups_->replicas = gang_->MakeGroup("replicas" + std::to_string(place), copy, copies());
  }
  // The gradients are the sharded model's to sum.
  void Attach(TrainableParameters&, const std::set<size_t>&) override {}
  void SumAcrossRanks(at::Tensor values, const char* what) override {
    gang_->Sum(std::move(values), what);
  }
  void MaxAcrossRanks(at::Tensor values, const char* what) override {
    gang_->Max(std::move(values), what);
  }
  std::vector<std::string> Gather(const std::string& own, const char* what) override {
    return gang_->Gather(own, what);
  }
  void BeginLastBackward() override {}
  std::vector<at::Tensor> ReduceGradients(TrainableParameters& parameters) override {
    return parameters.Gradients();
  }
  bool norm_is_partial() const override { return true; }
  int copies() const override { return rank().world_size / shards_; }
  const ShardGroups* shard_groups() const override { return groups_ ? &*groups_ : nullptr; }
  std::shared_ptr<const SequenceGroup> sequence_group() const override { return sequence_group_; }
  void Explain(const std::exception_ptr& error) override { gang_->Explain(error); }
  std::shared_ptr<void> AwaitDevice(const char* what) override {
    return on_gpu_ ? gang_->WaitForIssued(what) : nullptr;
  }
  double WaitedSeconds() const override { return gang_->waited_s(); }
  void Leave(const Farewell& farewell) override { gang_->Leave(farewell); }

 private:
  const std::unique_ptr<Gang> gang_;
  const liger::v1::ParallelSpec parallel_;
  const at::ScalarType reduce_;
  const int sequence_size_;
  int shards_ = 1;
  std::optional<ShardGroups> groups_;
  std::shared_ptr<const SequenceGroup> sequence_group_;
  bool on_gpu_ = false;
};

}  // namespace

std::unique_ptr<Strategy> MakeFsdp(std::unique_ptr<Gang> gang,
                                   const liger::v1::ParallelSpec& parallel,
                                   at::ScalarType reduce, int sequence_size) {
  return std::make_unique<Fsdp>(std::move(gang), parallel, reduce, sequence_size);
}

}  // namespace liger::trainer
