#include "worker/trainer/optim/aten_optimizer.h"

#include <ATen/ATen.h>

#include <cmath>

#include "worker/trainer/optim/rounding.h"

namespace liger::trainer {

void AtenOptimizer::AllocateStates() {
  if (!states_.empty()) return;
  for (const Entry& entry : parameters_.entries()) {
    states_.push_back(MakeStates(entry, entry.storage.device()));
  }
}

void AtenOptimizer::Step(const std::vector<at::Tensor>& grads, double learning_rate,
                         const at::Tensor& grad_scale) {
  const at::NoGradGuard no_grad;
  const auto& entries = parameters_.entries();
  TORCH_CHECK(grads.size() == entries.size(), "optimizer: one gradient a parameter");
  AllocateStates();
  ++step_count_;
  const double scale = grad_scale.item<double>();
  if (entries.empty() || !std::isfinite(scale)) return;
  generator_ = StepGenerator(entries[0].storage.device(), rounding_, seed_, step_count_);
  for (size_t i = 0; i < entries.size(); ++i) {
    if (!grads[i].defined()) continue;
    const at::Tensor param = entries[i].storage.detach();
    const at::Tensor value = param.to(at::kFloat);
    at::Tensor grad = grads[i].to(at::kFloat);
    if (scale != 1) grad = grad.mul(scale);
    Update(entries[i], value, grad, learning_rate, states_[i]);
    StoreRounded(param, value, generator_);
    if (!entries[i].storage.is_same(entries[i].compute)) entries[i].compute.detach().copy_(param);
  }
}

void AtenOptimizer::Keep(at::Tensor state, const at::Tensor& value_f32) const {
  StoreRounded(std::move(state), value_f32, generator_);
}

std::map<std::string, at::Tensor> AtenOptimizer::StateDict() const {
  std::map<std::string, at::Tensor> state;
  state["step"] = at::scalar_tensor(step_count_, at::kLong);
  for (size_t i = 0; i < states_.size(); ++i) {
    for (const auto& [kind, tensor] : states_[i]) {
      state[kind + "." + parameters_.entries()[i].name] = tensor;
    }
  }
  return state;
}

void AtenOptimizer::LoadStateDict(const std::map<std::string, at::Tensor>& state) {
  const at::NoGradGuard no_grad;
  AllocateStates();
  const at::Tensor step = at::scalar_tensor(0, at::kLong);
  LoadState(state, "step", step);
  for (size_t i = 0; i < states_.size(); ++i) {
    for (const auto& [kind, tensor] : states_[i]) {
      LoadState(state, kind + "." + parameters_.entries()[i].name, tensor);
    }
  }
  step_count_ = step.item<int64_t>();
}

int64_t AtenOptimizer::StateBytes() const {
  int64_t bytes = 0;
  for (const Entry& entry : parameters_.entries()) {
    for (const auto& [kind, tensor] : MakeStates(entry, at::kMeta)) {
      bytes += static_cast<int64_t>(tensor.nbytes());
    }
  }
  return bytes;
}

}  // namespace liger::trainer
