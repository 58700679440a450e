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

void Sgd::UpdateMany(Many& many, double learning_rate) {
  std::vector<at::Tensor> direction = many.grads;
  if (options_.weight_decay > 0) {
    std::vector<size_t> decaying;
    std::vector<at::Tensor> grads, params;
    for (size_t i = 0; i < many.entries.size(); ++i) {
      if (!many.entries[i]->decay) continue;
      decaying.push_back(i);
      grads.push_back(many.grads[i]);
      params.push_back(many.params[i]);
    }
    if (!decaying.empty()) {
      const std::vector<at::Tensor> sum = at::_foreach_add(grads, params, options_.weight_decay);
      for (size_t i = 0; i < decaying.size(); ++i) direction[decaying[i]] = sum[i];
    }
  }
  if (options_.momentum > 0) {
    const std::vector<at::Tensor> buffers = StatesInFp32(many, kBuffer);
    at::_foreach_mul_(buffers, options_.momentum);
    at::_foreach_add_(buffers, direction);
    KeepAll(many, kBuffer, buffers);
    direction = buffers;
  }
  at::_foreach_add_(many.params, direction, -learning_rate);
}

}  // namespace liger::trainer
