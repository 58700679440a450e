#ifndef LIGER_KERNELS_ROPE_ROPE_IMPL_H_
#define LIGER_KERNELS_ROPE_ROPE_IMPL_H_

#include <ATen/core/Tensor.h>

namespace liger::kernels {

enum class RopeDirection { kForward, kBackward };

// Bodies of the dispatcher ops after their checks, for q or k alone.

// Rotates x_TND into y_TND (CPU loops; y contiguous, or x itself).
void RopeIntoCpu(const at::Tensor& x_TND, const at::Tensor& cos_TR, const at::Tensor& sin_TR,
                 RopeDirection direction, const at::Tensor& y_TND);

// cos or sin as [T, R]: of multimodal positions ([3, T, R], rope.h) each pair's own entries.
at::Tensor OneRopeTable(const at::Tensor& table, at::IntArrayRef mrope_section);

// Rotates q and k into y_q and y_k, which may be q and k, in one launch. The last dimension of
// each is contiguous. REQUIRES: kHasCuda, and HasCudaKernels(q).
void RopeIntoCuda(const at::Tensor& q_TND, const at::Tensor& k_TKD, const at::Tensor& cos_TR,
                  const at::Tensor& sin_TR, at::IntArrayRef mrope_section, RopeDirection direction,
                  const at::Tensor& y_q, const at::Tensor& y_k);

// One of them as a new contiguous tensor, CPU loops or ATen.
at::Tensor RopeRotate(const at::Tensor& x_TND, const at::Tensor& cos_TR, const at::Tensor& sin_TR,
                      RopeDirection direction);

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_ROPE_ROPE_IMPL_H_
