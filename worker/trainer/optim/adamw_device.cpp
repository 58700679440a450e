// AdamW's update from ATen ops, for devices that have no kernel of ours.
#include <ATen/ATen.h>

#include "worker/trainer/optim/adamw_cpu.h"
#include "worker/trainer/optim/rounding.h"

namespace liger::trainer {
void AdamWStepDevice(at::Tensor param, at::Tensor compute, const at::Tensor& grad,
                     at::Tensor exp_avg, at::Tensor exp_avg_sq, const AdamWScalars& s,
                     std::optional<at::Generator> generator) {
  const at::Tensor g = grad.to(at::kFloat).mul(s.grad_scale);
  const at::Tensor m = exp_avg.to(at::kFloat);  // the state itself when it is fp32
  m.lerp_(g, s.one_minus_beta1);
  const at::Tensor v = exp_avg_sq.to(at::kFloat);
  v.mul_(s.beta2).addcmul_(g, g, s.one_minus_beta2);
  const at::Tensor denominator = v.sqrt().mul_(s.inv_sqrt_bias2).add_(s.epsilon);
  const at::Tensor p = param.to(at::kFloat);
  p.mul_(s.decay).addcdiv_(m, denominator, -s.step_size);
  StoreRounded(param, p, generator);
  StoreRounded(exp_avg, m, generator);
  StoreRounded(exp_avg_sq, v, generator);
  if (!compute.is_same(param)) compute.copy_(p);
}

}  // namespace liger::trainer
