// AdamW's update from ATen ops, for devices that have no kernel of ours.
#include <ATen/ATen.h>

#include "worker/trainer/optim/adamw_cpu.h"

namespace liger::trainer {
namespace {

// Writes fp32 `value` to `target`, rounding stochastically when target is bf16
// and there is a generator.
void Store(at::Tensor target, const at::Tensor& value_f32,
           const std::optional<at::Generator>& generator) {
  if (target.scalar_type() != at::kBFloat16 || !generator) {
    if (!target.is_same(value_f32)) target.copy_(value_f32);
    return;
  }
  // Random bits below the last kept one, then cut: see adamw_cpu.cpp.
  const at::Tensor random =
      at::randint(0, 1 << 16, value_f32.sizes(), generator, value_f32.options().dtype(at::kInt));
  const at::Tensor bits = value_f32.view(at::kInt).add(random).bitwise_and_(~0xffff);
  target.copy_(bits.view(at::kFloat));
}

}  // namespace

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
  Store(param, p, generator);
  Store(exp_avg, m, generator);
  Store(exp_avg_sq, v, generator);
  if (!compute.is_same(param)) compute.copy_(p);
}

}  // namespace liger::trainer
