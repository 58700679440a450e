#include "worker/trainer/optim/sgd.h"

#include <ATen/ATen.h>

namespace liger::trainer {
namespace {

constexpr char kBuffer[] = "momentum_buffer";

}  // namespace

AtenOptimizer::States Sgd::MakeStates(const Entry& entry, at::Device device) const {
  if (options_.momentum == 0) return {};
  const auto options = at::TensorOptions(device).dtype(state_dtype());
  return {{kBuffer, at::zeros(entry.storage.sizes(), options)}};
}

void Sgd::Update(const Entry& entry, at::Tensor param, const at::Tensor& grad, double learning_rate,
                 States& states) {
  at::Tensor direction = grad;
  if (options_.weight_decay > 0 && entry.decay) {
    direction = grad.add(param, options_.weight_decay);
  }
  if (options_.momentum > 0) {
    at::Tensor& buffer = states.at(kBuffer);
    const at::Tensor value = InFp32(buffer);
    value.mul_(options_.momentum).add_(direction);
    Keep(buffer, value);
    direction = value;
  }
  param.add_(direction, -learning_rate);
}

}  // namespace liger::trainer
