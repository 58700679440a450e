#ifndef LIGER_WORKER_TRAINER_MODELS_EVALUATION_MODE_H_
#define LIGER_WORKER_TRAINER_MODELS_EVALUATION_MODE_H_

#include <ATen/ATen.h>
#include <torch/nn/module.h>

namespace liger::trainer {

// While it lives, the module is in evaluation mode: no dropout.
class EvaluationMode {
 public:
  explicit EvaluationMode(torch::nn::Module& module)
      : module_(module), was_training_(module.is_training()) {
    module_.eval();
  }
  ~EvaluationMode() { module_.train(was_training_); }
  EvaluationMode(const EvaluationMode&) = delete;
  EvaluationMode& operator=(const EvaluationMode&) = delete;

 private:
  torch::nn::Module& module_;
  bool was_training_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_MODELS_EVALUATION_MODE_H_
