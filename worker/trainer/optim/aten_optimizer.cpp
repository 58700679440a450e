#include "worker/trainer/optim/aten_optimizer.h"

#include <ATen/ATen.h>

#include <cmath>

#include "worker/trainer/optim/rounding.h"

namespace liger::trainer {
namespace {

// Elements of the parameters that are updated together.
constexpr int64_t kMostTogether = 64 << 20;

}  // namespace

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
  PrepareUpdates(grads, scale);
  // Together as many as bounds what the ops make beside parameters and states.
  for (size_t begin = 0, end; begin < entries.size(); begin = end) {
    int64_t numel = entries[begin].storage.numel();
    for (end = begin + 1; end < entries.size(); ++end) {
      numel += entries[end].storage.numel();
      if (numel > kMostTogether) break;
    }
    StepMany(grads, begin, end, learning_rate, scale);
  }
}

void AtenOptimizer::StepMany(const std::vector<at::Tensor>& grads, size_t begin, size_t end,
                             double learning_rate, double scale) {
  const auto& entries = parameters_.entries();
  Many many;
  for (size_t i = begin; i < end; ++i) {
    if (!grads[i].defined()) continue;
    many.entries.push_back(&entries[i]);
    many.params.push_back(entries[i].storage.detach().to(at::kFloat));
    many.grads.push_back(grads[i].to(at::kFloat));
    many.states.push_back(&states_[i]);
  }
  if (many.entries.empty()) return;
  if (scale != 1) many.grads = at::_foreach_mul(many.grads, scale);
  UpdateMany(many, learning_rate);
  for (size_t i = 0; i < many.entries.size(); ++i) {
    const Entry& entry = *many.entries[i];
    const at::Tensor param = entry.storage.detach();
    StoreRounded(param, many.params[i], generator_);
    if (!entry.storage.is_same(entry.compute)) entry.compute.detach().copy_(param);
  }
}

void AtenOptimizer::UpdateMany(Many& many, double learning_rate) {
  for (size_t i = 0; i < many.entries.size(); ++i) {
    Update(*many.entries[i], many.params[i], many.grads[i], learning_rate, *many.states[i]);
  }
}

void AtenOptimizer::Update(const Entry&, at::Tensor, const at::Tensor&, double, States&) {
  TORCH_CHECK(false, "this optimizer updates many parameters at a time");
}

std::vector<at::Tensor> AtenOptimizer::StatesInFp32(const Many& many, const char* name) {
  std::vector<at::Tensor> values;
  for (const States* states : many.states) values.push_back(InFp32(states->at(name)));
  return values;
}

void AtenOptimizer::KeepAll(const Many& many, const char* name,
                            const std::vector<at::Tensor>& values_f32) const {
  for (size_t i = 0; i < many.states.size(); ++i) Keep(many.states[i]->at(name), values_f32[i]);
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
