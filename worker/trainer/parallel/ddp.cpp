#include "worker/trainer/parallel/ddp.h"

#include <optional>
#include <utility>

#include "worker/trainer/parallel/sequence_ranks.h"

namespace liger::trainer {
namespace {

class Ddp : public Strategy {
 public:
  Ddp(std::unique_ptr<Gang> gang, const GradientReducer::Options& options, int sequence_size)
      : gang_(std::move(gang)), options_(options), sequence_size_(sequence_size) {}

  const RankInfo& rank() const override { return gang_->rank(); }
  int sequence_size() const override { return sequence_size_; }
  std::string Describe() const override {
    return "DDP of " + std::to_string(rank().world_size) + " ranks" +
           DescribeSequenceGroups(sequence_size_) + ", gradients summed in " +
           (options_.dtype == at::kFloat ? "fp32" : "bf16");
  }
  void OpenDevice(at::Device device) override {
    gang_->OpenDevice(device);
    on_gpu_ = !device.is_cpu();
    sequence_group_ = MakeSequenceGroup(*gang_, sequence_size_);
  }
  void Attach(TrainableParameters& parameters, const std::set<size_t>& finished_before) override {
    options_.finished_before = finished_before;
    reducer_.emplace(parameters, *gang_, options_);
  }
  void SumAcrossRanks(at::Tensor values, const char* what) override {
    gang_->Sum(std::move(values), what);
  }
  void MaxAcrossRanks(at::Tensor values, const char* what) override {
    gang_->Max(std::move(values), what);
  }
  std::vector<std::string> Gather(const std::string& own, const char* what) override {
    return gang_->Gather(own, what);
  }
  void BeginLastBackward() override { reducer_->BeginLastBackward(); }
  std::vector<at::Tensor> ReduceGradients(TrainableParameters&) override {
    return reducer_->Finish();
  }
  bool norm_is_partial() const override { return false; }
  std::shared_ptr<const SequenceGroup> sequence_group() const override { return sequence_group_; }
  void Explain(const std::exception_ptr& error) override { gang_->Explain(error); }
  std::shared_ptr<void> AwaitDevice(const char* what) override {
    return on_gpu_ ? gang_->WaitForIssued(what) : nullptr;
  }
  double WaitedSeconds() const override { return gang_->waited_s(); }
  void Leave(const Farewell& farewell) override { gang_->Leave(farewell); }

 private:
  const std::unique_ptr<Gang> gang_;
  GradientReducer::Options options_;
  const int sequence_size_;
  std::shared_ptr<const SequenceGroup> sequence_group_;
  std::optional<GradientReducer> reducer_;
  bool on_gpu_ = false;
};

}  // namespace

std::unique_ptr<Strategy> MakeDdp(std::unique_ptr<Gang> gang,
                                  const GradientReducer::Options& options, int sequence_size) {
  return std::make_unique<Ddp>(std::move(gang), options, sequence_size);
}

}  // namespace liger::trainer
