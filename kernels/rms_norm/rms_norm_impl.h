#ifndef LIGER_KERNELS_RMS_NORM_RMS_NORM_IMPL_H_
#define LIGER_KERNELS_RMS_NORM_RMS_NORM_IMPL_H_

#include <ATen/core/Tensor.h>
#include <c10/util/string_view.h>

#include <optional>
#include <tuple>

#include "kernels/rms_norm/rms_norm.h"

namespace liger::kernels {

// Bodies of the dispatcher ops after their checks; rms_norm and fused_add_rms_norm share them.
// rstd has x's shape without the last dimension. Gradients that are not needed come back as
// empty [0] tensors.
struct RmsNormOutput {
  at::Tensor y, rstd;
  at::Tensor sum;  // x + residual in x's dtype; undefined without a residual
};
using RmsNormBackwardResult = std::tuple<at::Tensor, at::Tensor>;  // dx, dweight
using OptionalTensor = std::optional<at::Tensor>;

// With a residual, what is normalised is x + residual, rounded to x's dtype.
RmsNormOutput RmsNormForward(const char* op, const at::Tensor& x, const OptionalTensor& residual,
                             const at::Tensor& weight, double eps, double offset,
                             RmsNormCasting casting);
// `x` is what was normalised. dsum, when given, is added to dx.
RmsNormBackwardResult RmsNormBackward(const char* op, const at::Tensor& dy,
                                      const OptionalTensor& dsum, const at::Tensor& x,
                                      const at::Tensor& weight, const at::Tensor& rstd,
                                      double offset, RmsNormCasting casting, bool need_dx,
                                      bool need_dweight);

RmsNormOutput RmsNormForwardCpu(const at::Tensor& x, const OptionalTensor& residual,
                                const at::Tensor& weight, double eps, double offset,
                                RmsNormCasting casting);
RmsNormBackwardResult RmsNormBackwardCpu(const at::Tensor& dy, const OptionalTensor& dsum,
                                         const at::Tensor& x, const at::Tensor& weight,
                                         const at::Tensor& rstd, double offset,
                                         RmsNormCasting casting, bool need_dx, bool need_dweight);

// REQUIRES: kHasCuda, and HasCudaKernels(x).
RmsNormOutput RmsNormForwardCuda(const char* op, const at::Tensor& x,
                                 const OptionalTensor& residual, const at::Tensor& weight,
                                 double eps, double offset, RmsNormCasting casting);
RmsNormBackwardResult RmsNormBackwardCuda(const char* op, const at::Tensor& dy,
                                          const OptionalTensor& dsum, const at::Tensor& x,
                                          const at::Tensor& weight, const at::Tensor& rstd,
                                          double offset, RmsNormCasting casting, bool need_dx,
                                          bool need_dweight);

RmsNormOutput RmsNormForwardAten(const at::Tensor& x, const OptionalTensor& residual,
                                 const at::Tensor& weight, double eps, double offset,
                                 RmsNormCasting casting);
RmsNormBackwardResult RmsNormBackwardAten(const at::Tensor& dy, const OptionalTensor& dsum,
                                          const at::Tensor& x, const at::Tensor& weight,
                                          const at::Tensor& rstd, double offset,
                                          RmsNormCasting casting, bool need_dx, bool need_dweight);

// Shared checks and names; `op` is the name in the messages.
void CheckRmsNormForward(const char* op, const at::Tensor& x, const at::Tensor& weight, double eps);
// `x_name` is what the messages call the normalised tensor.
void CheckRmsNormBackward(const char* op, const char* x_name, const at::Tensor& dy,
                          const at::Tensor& x, const at::Tensor& weight, const at::Tensor& rstd);
RmsNormCasting ParseRmsNormCasting(const char* op, c10::string_view mode);
const char* RmsNormCastingName(RmsNormCasting casting);
// Shapes of the results, for Meta kernels.
at::Tensor RmsNormRstdMeta(const at::Tensor& x);
RmsNormBackwardResult RmsNormBackwardMeta(const at::Tensor& x, const at::Tensor& weight,
                                          bool need_dx, bool need_dweight);

// Llama rounds x * rstd to x's dtype, unless a float32 weight keeps the product in float32.
inline bool RoundsXhat(const at::Tensor& x, const at::Tensor& weight, RmsNormCasting casting) {
  return casting == RmsNormCasting::kLlama && weight.scalar_type() == x.scalar_type();
}

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_RMS_NORM_RMS_NORM_IMPL_H_
