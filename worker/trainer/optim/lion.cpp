#include "worker/trainer/optim/lion.h"

#include <ATen/ATen.h>

namespace liger::trainer {
namespace {

constexpr char kExpAvg[] = "exp_avg";

}  // namespace

AtenOptimizer::States Lion::MakeStates(const Entry& entry, at::Device device) const {
  const auto options = at::TensorOptions(device).dtype(state_dtype());
  return {{kExpAvg, at::zeros(entry.storage.sizes(), options)}};
}

void Lion::Update(const Entry& entry, at::Tensor param, const at::Tensor& grad,
                  double learning_rate, States& states) {
  at::Tensor& state = states.at(kExpAvg);
  const at::Tensor momentum = InFp32(state);
  const at::Tensor direction = momentum.mul(options_.beta1).add_(grad, 1 - options_.beta1).sign_();
  if (entry.decay) param.mul_(1 - learning_rate * options_.weight_decay);
  param.add_(direction, -learning_rate);
  momentum.mul_(options_.beta2).add_(grad, 1 - options_.beta2);
  Keep(state, momentum);
}

}  // namespace liger::trainer
