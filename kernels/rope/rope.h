#ifndef LIGER_KERNELS_ROPE_ROPE_H_
#define LIGER_KERNELS_ROPE_ROPE_H_

#include <ATen/core/Tensor.h>

#include <utility>

namespace liger::kernels {

// Rotary position embedding (Su et al. 2021, arXiv:2104.09864, eq. 34) in Hugging Face's
// convention, which pairs element i with element i + R/2 instead of i + 1.
// Differentiable in q and k. Dispatcher op `liger::rope`.
//   y[i]       = x[i]       * cos[i]       - x[i + R/2] * sin[i]          0 <= i < R/2
//   y[i + R/2] = x[i + R/2] * cos[i + R/2] + x[i]       * sin[i + R/2]
//   y[j]       = x[j]                                                     R <= j < D
//   q_TND [T, N, D], k_TKD [T, K, D]: unpadded tokens, query heads, key heads, head size;
//         strides are free but the last, which is 1 (so views of one qkv tensor work)
//   cos_TR, sin_TR [T, R] for each token's own position; R even, R <= D; the dtype of q or
//         float32. Not differentiable.
//   mrope_section  three numbers that sum to R/2: multimodal positions (Qwen2-VL: Wang et al. 2024,
//         arXiv:2409.12191, sec. 2.1). cos and sin are then [3, T, R], of each token's temporal,
//         height and width positions: pair i takes the first table for i below the first number,
//         the second for the next ones, and the third for the rest. Empty: plain positions.
// Returns contiguous (q, k) in q's dtype; computed in float32 and rounded once.
// Backward rotates by the opposite angle and needs cos and sin only.
// Throws c10::Error that names the argument and its shape.
std::pair<at::Tensor, at::Tensor> Rope(const at::Tensor& q_TND, const at::Tensor& k_TKD,
                                       const at::Tensor& cos_TR, const at::Tensor& sin_TR,
                                       at::IntArrayRef mrope_section = {});

// The same, into q and k themselves, which must not overlap. No autograd: throws when q or k needs
// a gradient and gradients are on. Dispatcher op `liger::rope_`.
void RopeInPlace(at::Tensor& q_TND, at::Tensor& k_TKD, const at::Tensor& cos_TR,
                 const at::Tensor& sin_TR, at::IntArrayRef mrope_section = {});

namespace baseline {
// As transformers' apply_rotary_pos_emb writes it: q * cos + rotate_half(q) * sin; multimodal
// tables are put together first, as its Qwen2VLRotaryEmbedding does.
std::pair<at::Tensor, at::Tensor> Rope(const at::Tensor& q_TND, const at::Tensor& k_TKD,
                                       const at::Tensor& cos_TR, const at::Tensor& sin_TR,
                                       at::IntArrayRef mrope_section = {});
}  // namespace baseline

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_ROPE_ROPE_H_
