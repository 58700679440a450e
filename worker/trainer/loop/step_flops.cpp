#include "worker/trainer/loop/step_flops.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "worker/trainer/models/lora.h"

namespace liger::trainer {
namespace {

// Pairs of a query and a key that it sees in a sequence of `n` tokens.
double CausalPairs(double n, double window) {
  if (window <= 0 || n <= window) return n * (n + 1) / 2;
  return window * (window + 1) / 2 + (n - window) * window;
}

}  // namespace

StepFlops::StepFlops(const TrainableModel& trainable, bool live_reference, bool mismatched)
    : config_(trainable.model->config()),
      frozen_(trainable.lora.has_value()),
      live_reference_(live_reference),
      mismatched_(mismatched) {
  const auto& model = *trainable.model;
  const void* embedding = trainable.model->EmbeddingWeight().unsafeGetTensorImpl();
  const void* head = trainable.model->HeadWeight().unsafeGetTensorImpl();
  for (const auto& item : model.named_parameters()) {
    const at::Tensor& weight = item.value();
    const auto numel = static_cast<double>(weight.numel());
    const void* own = weight.unsafeGetTensorImpl();
    if (own == head) head_weights_ = numel;
    if (own == head || own == embedding || weight.dim() < 2) continue;
    if (IsAdapterParameter(item.key())) {
      adapter_weights_ += numel;
      continue;
    }
    // Of all experts' matrices in one, a token's.
    const bool experts = weight.dim() == 3;
    block_weights_ += experts ? numel * static_cast<double>(config_.num_experts_per_tok) /
                                    static_cast<double>(config_.num_local_experts)
                              : numel;
  }
}

double StepFlops::Forward(const Batch& batch) const {
  const auto tokens = static_cast<double>(batch.num_tokens);
  double flops = 2 * block_weights_ * tokens;
  flops += 2 * head_weights_ * static_cast<double>(batch.num_target_tokens);
  const int32_t* ends = batch.cu_seqlens_S1.const_data_ptr<int32_t>();
  const auto width = static_cast<double>(config_.num_attention_heads * config_.head_dim);
  for (int64_t s = 0; s + 1 < batch.cu_seqlens_S1.numel(); ++s) {
    const double length = ends[s + 1] - ends[s];
    double pairs = 0;
    for (const int64_t window : config_.sliding_windows) {
      pairs += CausalPairs(length, static_cast<double>(window));
    }
    flops += 4 * width * pairs;
  }
  return flops;
}

double StepFlops::Of(const Batch& batch) const {
  const double forward = Forward(batch);
  const double adapters = 2 * adapter_weights_ * static_cast<double>(batch.num_tokens);
  // Backward: the gradients of activations, and those of weights where they are trained.
  double flops = forward * (frozen_ ? 2 : 3) + adapters * 3;
  if (live_reference_) flops += forward;
  if (mismatched_ && batch.mismatched) {
    const double other = Forward(*batch.mismatched);
    flops += other + 2 * adapter_weights_ * static_cast<double>(batch.mismatched->num_tokens);
    if (live_reference_) flops += other;
  }
  return flops;
}

std::optional<double> PeakBf16Flops(const std::string& device) {
  static constexpr std::pair<std::string_view, double> kPeaks[] = {
      {"H100 PCIe", 756e12}, {"H100 NVL", 835e12}, {"H100", 989e12}, {"H200", 989e12},
      {"H800", 989e12},      {"A100", 312e12},     {"A800", 312e12}, {"L40S", 362e12},
  };
  for (const auto& [name, peak] : kPeaks) {
    if (device.find(name) != std::string::npos) return peak;
  }
  return std::nullopt;
}

}  // namespace liger::trainer
