#ifndef LIGER_KERNELS_RMS_NORM_RMS_NORM_IMPL_H_
#define LIGER_KERNELS_RMS_NORM_RMS_NORM_IMPL_H_

#include <ATen/core/Tensor.h>

#include <tuple>

#include "kernels/rms_norm/rms_norm.h"

namespace liger::kernels {

// Bodies of the dispatcher ops after their checks. rstd has x's shape without the last
// dimension. Gradients that are not needed come back as empty [0] tensors.
using RmsNormForwardResult = std::tuple<at::Tensor, at::Tensor>;   // y, rstd
using RmsNormBackwardResult = std::tuple<at::Tensor, at::Tensor>;  // dx, dweight

RmsNormForwardResult RmsNormForwardCpu(const at::Tensor& x, const at::Tensor& weight, double eps,
                                       double offset, RmsNormCasting casting);
RmsNormBackwardResult RmsNormBackwardCpu(const at::Tensor& dy, const at::Tensor& x,
                                         const at::Tensor& weight, const at::Tensor& rstd,
                                         double offset, RmsNormCasting casting, bool need_dx,
                                         bool need_dweight);

// REQUIRES: kHasCuda, and HasCudaKernels(x).
RmsNormForwardResult RmsNormForwardCuda(const at::Tensor& x, const at::Tensor& weight, double eps,
                                        double offset, RmsNormCasting casting);
RmsNormBackwardResult RmsNormBackwardCuda(const at::Tensor& dy, const at::Tensor& x,
                                          const at::Tensor& weight, const at::Tensor& rstd,
                                          double offset, RmsNormCasting casting, bool need_dx,
                                          bool need_dweight);

RmsNormForwardResult RmsNormForwardAten(const at::Tensor& x, const at::Tensor& weight, double eps,
                                        double offset, RmsNormCasting casting);
RmsNormBackwardResult RmsNormBackwardAten(const at::Tensor& dy, const at::Tensor& x,
                                          const at::Tensor& weight, const at::Tensor& rstd,
                                          double offset, RmsNormCasting casting, bool need_dx,
                                          bool need_dweight);

// Llama rounds x * rstd to x's dtype, unless a float32 weight keeps the product in float32.
inline bool RoundsXhat(const at::Tensor& x, const at::Tensor& weight, RmsNormCasting casting) {
  return casting == RmsNormCasting::kLlama && weight.scalar_type() == x.scalar_type();
}

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_RMS_NORM_RMS_NORM_IMPL_H_
