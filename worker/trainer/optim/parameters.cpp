#include "worker/trainer/optim/parameters.h"

#include <c10/util/accumulate.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <memory>

namespace liger::trainer {
namespace {

// Runs when a leaf's gradient for one backward pass is complete.
class GradientHook : public torch::autograd::PostAccumulateGradHook {
 public:
  // `buffer`: where the gradient adds up; null: in the leaf itself.
  GradientHook(size_t index, std::shared_ptr<at::Tensor> buffer, at::ScalarType dtype,
               std::shared_ptr<std::function<void(size_t)>> listener)
      : index_(index), buffer_(std::move(buffer)), dtype_(dtype), listener_(std::move(listener)) {}

  void operator()(const torch::autograd::Variable& leaf) override {
    const at::NoGradGuard no_grad;
    if (buffer_) MoveToBuffer(leaf.mutable_grad());
    if (*listener_) (*listener_)(index_);
  }

 private:
  // Adds it to the accumulation buffer and lets go of it.
  void MoveToBuffer(at::Tensor& grad) {
    if (!grad.defined()) return;
    if (buffer_->defined()) {
      buffer_->add_(grad);
    } else {
      *buffer_ = grad.to(dtype_);
    }
    grad.reset();
  }

  const size_t index_;
  const std::shared_ptr<at::Tensor> buffer_;
  const at::ScalarType dtype_;
  const std::shared_ptr<std::function<void(size_t)>> listener_;
};

}  // namespace

bool WeightDecayApplies(const std::string& name, const at::Tensor& parameter) {
  const bool is_bias = name == "bias" || name.ends_with(".bias");
  return parameter.dim() >= 2 && !is_bias;
}

int64_t TrainableParameters::Entry::whole_numel() const {
  return part ? c10::multiply_integers(part->shape) : storage.numel();
}

TrainableParameters::TrainableParameters(std::vector<Entry> entries)
    : entries_(std::move(entries)),
      gradient_dtype_(at::kFloat),
      external_gradients_(false),
      listener_(std::make_shared<std::function<void(size_t)>>()) {}

TrainableParameters::TrainableParameters(
    const std::vector<std::pair<std::string, at::Tensor>>& leaves, const PrecisionPlan& plan,
    const std::function<bool(std::string_view)>& keeps_storage)
    : gradient_dtype_(plan.gradient),
      external_gradients_(plan.gradient != plan.compute),
      listener_(std::make_shared<std::function<void(size_t)>>()) {
  at::NoGradGuard no_grad;
  for (const auto& [name, leaf] : leaves) {
    if (!leaf.requires_grad()) continue;
    TORCH_CHECK(leaf.scalar_type() == plan.storage, "parameter ", name, " is ", leaf.scalar_type(),
                ", expected ", plan.storage);
    Entry entry{name, leaf, leaf, WeightDecayApplies(name, leaf)};
    if (plan.has_compute_copy() && !(keeps_storage && keeps_storage(name))) {
      entry.storage = leaf.detach();  // keeps the storage-dtype tensor alive
      at::Tensor model_leaf = leaf;
      model_leaf.set_data(entry.storage.to(plan.compute));
    }
    entries_.push_back(std::move(entry));
    if (external_gradients_) accumulated_.push_back(std::make_shared<at::Tensor>());
    AttachHook(entries_.size() - 1);
  }
}

void TrainableParameters::AttachHook(size_t index) {
  torch::autograd::impl::set_post_acc_grad_hooks(
      entries_[index].compute,
      std::make_unique<GradientHook>(index, external_gradients_ ? accumulated_[index] : nullptr,
                                     gradient_dtype_, listener_));
}

void TrainableParameters::ListenToGradients(std::function<void(size_t)> listener) {
  *listener_ = std::move(listener);
}

at::Tensor& TrainableParameters::Accumulator(size_t index) {
  return external_gradients_ ? *accumulated_[index] : entries_[index].compute.mutable_grad();
}

std::optional<size_t> TrainableParameters::IndexOf(const at::Tensor& leaf) const {
  const auto entry = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const Entry& e) { return e.compute.is_same(leaf); });
  if (entry == entries_.end()) return std::nullopt;
  return static_cast<size_t>(entry - entries_.begin());
}

std::optional<GradientSum> TrainableParameters::DirectGradient(const at::Tensor& leaf) {
  const auto index = IndexOf(leaf);
  if (!index) return std::nullopt;
  at::Tensor& sum = gradient_dtype_ == at::kFloat ? Accumulator(*index) : direct_[*index];
  const bool is_new = !sum.defined();
  if (is_new) sum = at::empty(leaf.sizes(), leaf.options().dtype(at::kFloat));
  return GradientSum{sum, is_new};
}

void TrainableParameters::Round(size_t index, const at::Tensor& sum) {
  const at::NoGradGuard no_grad;
  at::Tensor& grad = Accumulator(index);
  if (grad.defined()) sum.add_(grad);
  grad = sum.to(gradient_dtype_);
}

void TrainableParameters::FinishDirectGradient(const at::Tensor& leaf) {
  const auto index = IndexOf(leaf);
  if (!index) return;
  RoundDirect(*index);
  if (*listener_) (*listener_)(*index);
}

void TrainableParameters::RoundDirect(size_t index) {
  const auto sum = direct_.find(index);
  if (sum == direct_.end()) return;
  Round(index, sum->second);
  direct_.erase(sum);
}

at::Tensor TrainableParameters::Gradient(size_t index) {
  RoundDirect(index);
  return Accumulator(index);
}

void TrainableParameters::SetGradient(size_t index, at::Tensor gradient) {
  Accumulator(index) = std::move(gradient);
}

std::vector<at::Tensor> TrainableParameters::Gradients() {
  std::vector<at::Tensor> grads;
  grads.reserve(entries_.size());
  for (size_t i = 0; i < entries_.size(); ++i) grads.push_back(Gradient(i));
  return grads;
}

void TrainableParameters::ZeroGradients() {
  direct_.clear();
  for (auto& buffer : accumulated_) buffer->reset();
  for (auto& entry : entries_) entry.compute.mutable_grad().reset();
}

void TrainableParameters::RefreshCompute() {
  at::NoGradGuard no_grad;
  for (auto& entry : entries_) {
    if (!entry.storage.is_same(entry.compute)) entry.compute.copy_(entry.storage);
  }
}

int64_t TrainableParameters::numel() const {
  int64_t total = 0;
  for (const auto& entry : entries_) total += entry.storage.numel();
  return total;
}

}  // namespace liger::trainer
