#ifndef LIGER_KERNELS_FUSED_ADD_RMS_NORM_FUSED_ADD_RMS_NORM_H_
#define LIGER_KERNELS_FUSED_ADD_RMS_NORM_FUSED_ADD_RMS_NORM_H_

#include <ATen/core/Tensor.h>

#include <utility>

#include "kernels/rms_norm/rms_norm.h"

namespace liger::kernels {

// The residual addition of a decoder layer and the norm after it, in one pass. Differentiable in
// x, residual and weight. Dispatcher op `liger::fused_add_rms_norm`.
//   sum = x + residual                              rounded to x's dtype
//   y   = rms_norm(sum, weight, eps, offset)        see rms_norm.h
//   x_xH, residual_xH [..., H], the same shape and dtype (float32, bfloat16, float16, float64)
//   weight_H          [H]; the same dtype as x, or float32
// Returns {y, sum}, both [..., H] in x's dtype. Gradients: with g the gradient of sum that comes
// through the norm, dx = dresidual = g + dsum, added in float32 and rounded once.
// Saves sum, weight and rstd (one float32 a row) for backward. Scratch and copies as rms_norm.h.
// Throws c10::Error that names the argument and its shape: residual or weight of another shape,
// mixed devices, unsupported dtype, eps not positive, x without dimensions or with H = 0.
std::pair<at::Tensor, at::Tensor> FusedAddRmsNorm(const at::Tensor& x_xH,
                                                  const at::Tensor& residual_xH,
                                                  const at::Tensor& weight_H, double eps,
                                                  double offset = 0.0,
                                                  RmsNormCasting casting = RmsNormCasting::kLlama);

namespace baseline {
// As transformers' LlamaDecoderLayer writes it: an addition, then LlamaRMSNorm.
std::pair<at::Tensor, at::Tensor> FusedAddRmsNorm(const at::Tensor& x_xH,
                                                  const at::Tensor& residual_xH,
                                                  const at::Tensor& weight_H, double eps,
                                                  double offset = 0.0,
                                                  RmsNormCasting casting = RmsNormCasting::kLlama);
}  // namespace baseline

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_FUSED_ADD_RMS_NORM_FUSED_ADD_RMS_NORM_H_
