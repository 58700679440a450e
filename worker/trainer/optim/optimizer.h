#ifndef LIGER_WORKER_TRAINER_OPTIM_OPTIMIZER_H_
#define LIGER_WORKER_TRAINER_OPTIM_OPTIMIZER_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "liger/v1/job_spec.pb.h"
#include "worker/trainer/optim/parameters.h"
#include "worker/trainer/optim/precision.h"

namespace liger::trainer {

// Updates the parameters of a TrainableParameters. Arithmetic is fp32 whatever
// the dtypes; what is kept in fewer bits is rounded once, to nearest or
// stochastically (Rounding), from random numbers that hang on the seed, the step
// and the parameter alone: a resumed run draws the same ones.
class Optimizer {
 public:
  virtual ~Optimizer() = default;

  // One update with grads scaled by `grad_scale`, one number on any device; grads as
  // TrainableParameters::Gradients() gives them. Parameters whose gradient is
  // undefined are left alone, weight decay included, as torch does. With a scale
  // that is not finite no parameter and no state changes, though the step counts:
  // the host may not know the scale (AdamW on a GPU does not wait for it).
  virtual void Step(const std::vector<at::Tensor>& grads, double learning_rate,
                    const at::Tensor& grad_scale) = 0;
  void Step(const std::vector<at::Tensor>& grads, double learning_rate, double grad_scale);

  // "step" (int64 scalar) and "<state>.<parameter's name>". The tensors share
  // memory with the optimizer.
  virtual std::map<std::string, at::Tensor> StateDict() const = 0;
  // Copies the state in. Throws TrainerError (CONFIG) on a missing tensor, a wrong
  // shape or a wrong dtype.
  virtual void LoadStateDict(const std::map<std::string, at::Tensor>& state) = 0;

  // Bytes of all states once there are any; known before the first step.
  virtual int64_t StateBytes() const = 0;
};

// The optimizer that training.optim names, with its options. `parameters` must
// outlive it. Throws TrainerError (CONFIG) for a name that is none.
std::unique_ptr<Optimizer> MakeOptimizer(const liger::v1::TrainingSpec& training,
                                         TrainableParameters& parameters,
                                         const PrecisionPlan& precision);

// For LoadStateDict: copies the tensor of that key into `target`, throwing as that does.
void LoadState(const std::map<std::string, at::Tensor>& state, const std::string& key,
               at::Tensor target);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OPTIM_OPTIMIZER_H_
