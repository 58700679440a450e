#include "worker/trainer/optim/adamw.h"

#include <ATen/ATen.h>

#include <cmath>

#include "kernels/adamw/adamw.h"
#include "worker/trainer/optim/adamw_cpu.h"
#include "worker/trainer/optim/rounding.h"

namespace liger::trainer {
namespace {

AdamWScalars MakeScalars(const AdamWOptions& options, int64_t step, double learning_rate,
                         double grad_scale) {
  const double bias1 = 1 - std::pow(options.beta1, double(step));
  const double bias2 = 1 - std::pow(options.beta2, double(step));
  AdamWScalars s;
  s.one_minus_beta1 = float(1 - options.beta1);
  s.beta2 = float(options.beta2);
  s.one_minus_beta2 = float(1 - options.beta2);
  s.epsilon = float(options.epsilon);
  s.step_size = float(learning_rate / bias1);
  s.inv_sqrt_bias2 = float(1 / std::sqrt(bias2));
  s.decay = float(1 - learning_rate * options.weight_decay);
  s.grad_scale = float(grad_scale);
  return s;
}

}  // namespace

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

void AdamW::Step(const std::vector<at::Tensor>& grads, double learning_rate, double grad_scale) {
  at::NoGradGuard no_grad;
  const auto& entries = parameters_.entries();
  TORCH_CHECK(grads.size() == entries.size(), "AdamW: one gradient a parameter");
  if (exp_avg_.empty()) AllocateStates();
  ++step_count_;
  const AdamWScalars with_decay = MakeScalars(options_, step_count_, learning_rate, grad_scale);
  AdamWScalars without_decay = with_decay;
  without_decay.decay = 1;

  std::optional<at::Generator> generator;
  std::vector<kernels::AdamWParameter> in_one_launch;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (!grads[i].defined()) continue;
    const AdamWScalars& scalars = entries[i].decay ? with_decay : without_decay;
    const at::Tensor param = entries[i].storage.detach();
    const at::Tensor compute =
        entries[i].storage.is_same(entries[i].compute) ? param : entries[i].compute.detach();
    const uint64_t stream =
        (seed_ * 0x9e3779b97f4a7c15ull + uint64_t(step_count_)) * 0xd1342543de82ef95ull +
        uint64_t(i) * 0xa0761d6478bd642full;
    if (kernels::HasAdamWStep(param.device())) {
      in_one_launch.push_back({.param = param,
                               .compute = compute.is_same(param) ? at::Tensor() : compute,
                               .grad = grads[i].contiguous(),
                               .exp_avg = exp_avg_[i],
                               .exp_avg_sq = exp_avg_sq_[i],
                               .decay = scalars.decay,
                               .stream = stream});
    } else if (param.is_cpu()) {
      AdamWStepCpu(param, compute, grads[i], exp_avg_[i], exp_avg_sq_[i], scalars, rounding_,
                   stream);
    } else {
      if (!generator) generator = StepGenerator(param.device(), rounding_, seed_, step_count_);
      AdamWStepDevice(param, compute, grads[i], exp_avg_[i], exp_avg_sq_[i], scalars, generator);
    }
  }
  const AdamWScalars& s = with_decay;
  kernels::AdamWStep(in_one_launch,
                     {.one_minus_beta1 = s.one_minus_beta1,
                      .beta2 = s.beta2,
                      .one_minus_beta2 = s.one_minus_beta2,
                      .epsilon = s.epsilon,
                      .step_size = s.step_size,
                      .inv_sqrt_bias2 = s.inv_sqrt_bias2,
                      .grad_scale = s.grad_scale},
                     rounding_ == Rounding::kStochastic);
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
  return 2 * parameters_.numel() * static_cast<int64_t>(c10::elementSize(state_dtype_));
}

}  // namespace liger::trainer
