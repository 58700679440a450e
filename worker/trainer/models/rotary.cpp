#include "worker/trainer/models/rotary.h"

#include <torch/torch.h>

#include <numbers>

namespace liger::trainer {
namespace {

at::Tensor Llama3Frequencies(const at::Tensor& base_R, const RopeConfig& rope) {
  const double context = static_cast<double>(rope.original_max_position_embeddings);
  const at::Tensor wavelength_R = (2 * std::numbers::pi) / base_R;
  const at::Tensor is_low_R = wavelength_R > context / rope.low_freq_factor;
  const at::Tensor is_high_R = wavelength_R < context / rope.high_freq_factor;
  const at::Tensor scaled_R = at::where(is_low_R, base_R / rope.factor, base_R);
  const at::Tensor blend_R = (context / wavelength_R - rope.low_freq_factor) /
                             (rope.high_freq_factor - rope.low_freq_factor);
  const at::Tensor blended_R = (1 - blend_R) * scaled_R / rope.factor + blend_R * scaled_R;
  return at::where(is_low_R.logical_or(is_high_R), scaled_R, blended_R);
}

}  // namespace

at::Tensor RopeFrequencies(const ModelConfig& config) {
  const at::Tensor exponent_R =
      at::arange(0, config.head_dim, 2, at::kFloat) / static_cast<double>(config.head_dim);
  const at::Tensor base_R = 1.0 / at::pow(config.rope.theta, exponent_R);
  return config.rope.type == RopeConfig::Type::kLlama3 ? Llama3Frequencies(base_R, config.rope)
                                                       : base_R;
}

RopeTables MakeRopeTables(const at::Tensor& frequencies_R, const at::Tensor& positions_T,
                          at::ScalarType dtype) {
  const at::Tensor angles_TR = positions_T.to(at::kFloat).unsqueeze(1) * frequencies_R;
  const at::Tensor angles_TH = at::cat({angles_TR, angles_TR}, 1);
  return {angles_TH.cos().to(dtype), angles_TH.sin().to(dtype)};
}

}  // namespace liger::trainer
