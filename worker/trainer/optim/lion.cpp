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

void Lion::UpdateMany(Many& many, double learning_rate) {
  const std::vector<at::Tensor> momentum = StatesInFp32(many, kExpAvg);
  const std::vector<at::Tensor> direction = at::_foreach_mul(momentum, options_.beta1);
  at::_foreach_add_(direction, many.grads, 1 - options_.beta1);
  at::_foreach_sign_(direction);
  std::vector<at::Tensor> decaying;
  for (size_t i = 0; i < many.entries.size(); ++i) {
    if (many.entries[i]->decay) decaying.push_back(many.params[i]);
  }
  if (!decaying.empty()) at::_foreach_mul_(decaying, 1 - learning_rate * options_.weight_decay);
  at::_foreach_add_(many.params, direction, -learning_rate);
  at::_foreach_mul_(momentum, options_.beta2);
  at::_foreach_add_(momentum, many.grads, 1 - options_.beta2);
  KeepAll(many, kExpAvg, momentum);
}

}  // namespace liger::trainer
