#include "worker/trainer/optim/adamw_device.h"

#include <ATen/ATen.h>

#include "worker/trainer/optim/rounding.h"

namespace liger::trainer {

void AdamWStepDevice(const kernels::AdamWParameter& parameter,
                     const kernels::AdamWStepOptions& options, double grad_scale,
                     std::optional<at::Generator> generator) {
  const kernels::AdamWScalars s = kernels::ScalarsOf(options);
  const auto decay = static_cast<float>(1 - options.learning_rate * parameter.weight_decay);
  const at::Tensor g = parameter.grad.to(at::kFloat).mul(grad_scale);
  const at::Tensor m = parameter.exp_avg.to(at::kFloat);  // the state itself when it is fp32
  m.lerp_(g, s.one_minus_beta1);
  const at::Tensor v = parameter.exp_avg_sq.to(at::kFloat);
  v.mul_(s.beta2).addcmul_(g, g, s.one_minus_beta2);
  const at::Tensor denominator = v.sqrt().mul_(s.inv_sqrt_bias2).add_(s.epsilon);
  const at::Tensor p = parameter.param.to(at::kFloat);
  p.mul_(decay).addcdiv_(m, denominator, -s.step_size);
  StoreRounded(parameter.param, p, generator);
  StoreRounded(parameter.exp_avg, m, generator);
  StoreRounded(parameter.exp_avg_sq, v, generator);
  if (parameter.compute.defined()) parameter.compute.copy_(p);
}

}  // namespace liger::trainer
