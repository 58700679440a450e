#ifndef LIGER_KERNELS_RMS_NORM_RMS_NORM_H_
#define LIGER_KERNELS_RMS_NORM_RMS_NORM_H_

#include <ATen/core/Tensor.h>

namespace liger::kernels {

// Where the rounding to x's dtype happens; matters for bfloat16 and float16 only.
enum class RmsNormCasting {
  // y = w * cast(x_fp32 * rstd): Llama, Mistral, Qwen.
  kLlama,
  // y = cast(x_fp32 * rstd * (w_fp32 + offset)): Gemma, whose offset is 1.
  kGemma,
  // Plain: no casts asked for, as PyTorch's ops in x's dtype. Computed as kGemma is: float32 on
  // chip, rounded once.
  kNone,
};

// Root mean square layer normalisation (Zhang and Sennrich 2019, arXiv:1910.07467, eq. 4),
// differentiable in x and weight. Dispatcher op `liger::rms_norm`.
//   rstd = 1 / sqrt(mean(x^2 over H) + eps)     in float32
//   y    = x * rstd * (weight + offset)         rounded as `casting` says
//   x_xH     [..., H], float32, bfloat16, float16 or float64
//   weight_H [H]; the same dtype as x, or float32
// Returns [..., H] in x's dtype (as transformers does for equal dtypes). A float32 weight
// with x of lower precision multiplies in float32 before the only other rounding.
// Saves x, weight and rstd (one float32 a row) for backward.
// Backward on a GPU takes float32 [blocks, H] as scratch for dweight, some blocks a processor.
// Arguments that are not contiguous are copied, their gradients too.
// Throws c10::Error that names the argument and its shape: weight not [H], mixed devices,
// unsupported dtype, eps not positive, x without dimensions or with H = 0.
at::Tensor RmsNorm(const at::Tensor& x_xH, const at::Tensor& weight_H, double eps,
                   double offset = 0.0, RmsNormCasting casting = RmsNormCasting::kLlama);

namespace baseline {
// As transformers' LlamaRMSNorm (or GemmaRMSNorm) writes it; kNone: without its casts. PyTorch's
// autograd.
at::Tensor RmsNorm(const at::Tensor& x_xH, const at::Tensor& weight_H, double eps,
                   double offset = 0.0, RmsNormCasting casting = RmsNormCasting::kLlama);
}  // namespace baseline

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_RMS_NORM_RMS_NORM_H_
