#include "worker/trainer/models/rotary.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace liger::trainer {
namespace {

using Type = RopeConfig::Type;

// theta^(2i / dim), i in [0, R).
at::Tensor Wavelengths(double theta, int64_t dim) {
  const at::Tensor exponent_R = at::arange(0, dim, 2, at::kFloat) / static_cast<double>(dim);
  return at::pow(theta, exponent_R);
}

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

// The theta that stretches the longest wavelength to `length`. In fp32 where the
// context grows, as transformers, which has the length in a tensor then.
double DynamicTheta(const RopeConfig& rope, int64_t length) {
  if (length <= rope.max_position_embeddings) return rope.theta;
  const float context = static_cast<float>(rope.max_position_embeddings);
  const float dim = static_cast<float>(rope.rotary_dim);
  const float factor = static_cast<float>(rope.factor);
  const float stretch = factor * static_cast<float>(length) / context - (factor - 1);
  return static_cast<float>(rope.theta) * std::pow(stretch, dim / (dim - 2));
}

// Which of the R pairs makes `rotations` turns over the original context.
double YarnBound(const RopeConfig& rope, double rotations) {
  const double context = static_cast<double>(rope.original_max_position_embeddings);
  return static_cast<double>(rope.rotary_dim) *
         std::log(context / (rotations * 2 * std::numbers::pi)) / (2 * std::log(rope.theta));
}

// Fast pairs keep their frequency, slow ones are divided by the factor, with a
// ramp in between.
at::Tensor YarnFrequencies(const RopeConfig& rope) {
  double low = YarnBound(rope, rope.beta_fast), high = YarnBound(rope, rope.beta_slow);
  if (rope.truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(rope.rotary_dim - 1));
  if (low == high) high += 0.001;
  const at::Tensor ramp_R =
      ((at::arange(rope.rotary_dim / 2, at::kFloat) - low) / (high - low)).clamp(0, 1);
  const at::Tensor keep_R = 1 - ramp_R;
  const at::Tensor wavelength_R = Wavelengths(rope.theta, rope.rotary_dim);
  return 1.0 / (rope.factor * wavelength_R) * (1 - keep_R) + 1.0 / wavelength_R * keep_R;
}

}  // namespace

at::Tensor RopeFrequencies(const RopeConfig& rope, int64_t length) {
  switch (rope.type) {
    case Type::kDefault:
      return 1.0 / Wavelengths(rope.theta, rope.rotary_dim);
    case Type::kLinear:
      return 1.0 / Wavelengths(rope.theta, rope.rotary_dim) / rope.factor;
    case Type::kDynamic:
      return 1.0 / Wavelengths(DynamicTheta(rope, length), rope.rotary_dim);
    case Type::kYarn:
      return YarnFrequencies(rope);
    case Type::kLlama3:
      return Llama3Frequencies(1.0 / Wavelengths(rope.theta, rope.rotary_dim), rope);
    case Type::kLongRope:
      break;
  }
  const bool is_long = length > rope.original_max_position_embeddings;
  const at::Tensor factor_R =
      at::tensor(is_long ? rope.long_factor : rope.short_factor, at::kFloat);
  return 1.0 / (factor_R * Wavelengths(rope.theta, rope.rotary_dim));
}

RopeTables RotaryEmbedding::Tables(const at::Tensor& positions_U, int64_t length,
                                   at::ScalarType dtype) {
  const bool depends = rope_.type == Type::kDynamic || rope_.type == Type::kLongRope;
  if (!frequencies_R_.defined() || frequencies_R_.device() != positions_U.device() ||
      (depends && length != length_)) {
    frequencies_R_ = RopeFrequencies(rope_, length).to(positions_U.device());
    length_ = length;
  }
  const at::Tensor angles_UR = positions_U.to(at::kFloat).unsqueeze(1) * frequencies_R_;
  const at::Tensor angles_UH = at::cat({angles_UR, angles_UR}, 1);
  const auto scaled = [&](const at::Tensor& x_UH) {
    return (rope_.attention_factor == 1 ? x_UH : x_UH * rope_.attention_factor).to(dtype);
  };
  return {scaled(angles_UH.cos()), scaled(angles_UH.sin())};
}

}  // namespace liger::trainer
