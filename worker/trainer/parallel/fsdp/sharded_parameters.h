#ifndef LIGER_WORKER_TRAINER_PARALLEL_FSDP_SHARDED_PARAMETERS_H_
#define LIGER_WORKER_TRAINER_PARALLEL_FSDP_SHARDED_PARAMETERS_H_

#include <optional>
#include <vector>

#include "worker/trainer/optim/parameters.h"
#include "worker/trainer/parallel/fsdp/sharded_model.h"

namespace liger::trainer {

// What a rank trains of a ShardedModel: of each parameter the elements that its shards have, maybe
// none, one-dimensional, with the parameter's own name and weight decay. Optimizers that treat
// every element alike (adamw, adamw_8bit, lion, sgd) work on it as on whole parameters; adafactor
// sums what it needs of whole ones (SumOverParts).
class ShardedParameters : public TrainableParameters {
 public:
  // `model` must outlive this.
  explicit ShardedParameters(ShardedModel& model);

  std::optional<GradientSum> DirectGradient(const at::Tensor& leaf) override;
  void FinishDirectGradient(const at::Tensor& leaf) override;
  // Collective.
  std::vector<at::Tensor> Gradients() override;
  void FinishBackward() override { model_.FinishBackward(); }
  void ZeroGradients() override;
  void RefreshCompute() override;
  void SumOverParts(at::Tensor values, const char* what) override;
  int64_t numel() const override;

 private:
  ShardedModel& model_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_PARALLEL_FSDP_SHARDED_PARAMETERS_H_
