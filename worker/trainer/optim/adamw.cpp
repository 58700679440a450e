#include "worker/trainer/optim/adamw.h"

#include <ATen/ATen.h>

#include <cmath>

#include "kernels/adamw/adamw.h"
#include "worker/trainer/optim/adamw_device.h"
#include "worker/trainer/optim/rounding.h"

namespace liger::trainer {
AdamWOptions AdamWOptions::FromSpec(const liger::v1::TrainingSpec& training) {
  AdamWOptions options;
  if (training.has_adam_beta1()) options.beta1 = training.adam_beta1();
  if (training.has_adam_beta2()) options.beta2 = training.adam_beta2();
  if (training.has_adam_epsilon()) options.epsilon = training.adam_epsilon();
  options.weight_decay = training.weight_decay();
  return options;
}

AdamW::AdamW(TrainableParameters& parameters, const AdamWOptions& options,
             const PrecisionPlan& precision, uint64_t seed)
    : parameters_(parameters),
      options_(options),
      state_dtype_(precision.optimizer),
      rounding_(precision.rounding),
      seed_(seed) {}

void AdamW::AllocateStates() {
  for (const auto& entry : parameters_.entries()) {
    const auto options = entry.storage.options().dtype(state_dtype_).requires_grad(false);
    exp_avg_.push_back(at::zeros(entry.storage.sizes(), options));
    exp_avg_sq_.push_back(at::zeros(entry.storage.sizes(), options));
  }
}

void AdamW::Step(const std::vector<at::Tensor>& grads, double learning_rate,
                 const at::Tensor& grad_scale) {
  at::NoGradGuard no_grad;
  const auto& entries = parameters_.entries();
  TORCH_CHECK(grads.size() == entries.size(), "AdamW: one gradient a parameter");
  if (exp_avg_.empty()) AllocateStates();
  ++step_count_;
  kernels::AdamWStepOptions options{.learning_rate = learning_rate,
                                    .beta1 = options_.beta1,
                                    .beta2 = options_.beta2,
                                    .epsilon = options_.epsilon,
                                    .step = step_count_,
                                    .grad_scale = grad_scale,
                                    .stochastic = rounding_ == Rounding::kStochastic};
  std::vector<kernels::AdamWParameter> parameters;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (!grads[i].defined()) continue;
    const auto& entry = entries[i];
    const bool has_copy = !entry.storage.is_same(entry.compute);
    parameters.push_back(
        {.param = entry.storage.detach(),
         .compute = has_copy ? entry.compute.detach() : at::Tensor(),
         .grad = grads[i].contiguous(),
         .exp_avg = exp_avg_[i],
         .exp_avg_sq = exp_avg_sq_[i],
         .weight_decay = entry.decay ? options_.weight_decay : 0,
         .stream = (seed_ * 0x9e3779b97f4a7c15ull + uint64_t(step_count_)) * 0xd1342543de82ef95ull +
                   uint64_t(i) * 0xa0761d6478bd642full});
  }
  if (parameters.empty()) return;
  const at::Tensor& first = parameters[0].param;
  if (kernels::HasAdamWStep(first)) {
    options.grad_scale = grad_scale.to(first.device(), at::kFloat);
    return kernels::AdamWStep(parameters, options);
  }
  const double scale = grad_scale.item<double>();
  if (!std::isfinite(scale)) return;
  const auto generator = StepGenerator(first.device(), rounding_, seed_, step_count_);
  for (const auto& parameter : parameters) AdamWStepDevice(parameter, options, scale, generator);
}

std::map<std::string, at::Tensor> AdamW::StateDict() const {
  std::map<std::string, at::Tensor> state;
  state["step"] = at::scalar_tensor(step_count_, at::kLong);
  for (size_t i = 0; i < exp_avg_.size(); ++i) {
    const std::string& name = parameters_.entries()[i].name;
    state["exp_avg." + name] = exp_avg_[i];
    state["exp_avg_sq." + name] = exp_avg_sq_[i];
  }
  return state;
}

void AdamW::LoadStateDict(const std::map<std::string, at::Tensor>& state) {
  at::NoGradGuard no_grad;
  if (exp_avg_.empty()) AllocateStates();
  at::Tensor step = at::scalar_tensor(0, at::kLong);
  LoadState(state, "step", step);
  for (size_t i = 0; i < exp_avg_.size(); ++i) {
    const std::string& name = parameters_.entries()[i].name;
    LoadState(state, "exp_avg." + name, exp_avg_[i]);
    LoadState(state, "exp_avg_sq." + name, exp_avg_sq_[i]);
  }
  step_count_ = step.item<int64_t>();
}

int64_t AdamW::StateBytes() const {
  int64_t numel = 0;
  for (const auto& entry : parameters_.entries()) numel += entry.storage.numel();
  return 2 * numel * static_cast<int64_t>(c10::elementSize(state_dtype_));
}

}  // namespace liger::trainer
