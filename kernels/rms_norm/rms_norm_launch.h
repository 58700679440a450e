#ifndef LIGER_KERNELS_RMS_NORM_RMS_NORM_LAUNCH_H_
#define LIGER_KERNELS_RMS_NORM_RMS_NORM_LAUNCH_H_

#include "kernels/common/launch.h"

namespace liger::kernels::cuda {

// rms_norm over `rows` contiguous rows of H elements; see rms_norm.h.
struct RmsNormShape {
  Dtype dtype;         // of x, y and their gradients
  Dtype weight_dtype;  // the same, or kFloat
  int64_t rows, H;
  float offset;
  bool round_xhat;
};

// y [rows, H], rstd [rows]. With a residual (else null) x + residual is normalised, rounded to
// dtype, and stored in `added`.
Error RmsNormForward(const Queue& queue, const RmsNormShape& shape, const void* x,
                     const void* residual, const void* weight, double eps, void* y, void* added,
                     float* rstd);

// Rows of the float32 scratch [ScratchRows, H] that the weight's gradient is summed in.
int64_t RmsNormScratchRows(const Queue& queue, const RmsNormShape& shape);

// dx [rows, H] and dweight [H] (weight_dtype), each left out when null. dadded (or null) is
// added to dx. The weight's
// gradient is summed in a fixed order: equal inputs give equal bits on one kind of GPU.
Error RmsNormBackward(const Queue& queue, const RmsNormShape& shape, const void* dy, const void* x,
                      const void* weight, const float* rstd, const void* dadded, void* dx,
                      void* dweight, float* scratch);

}  // namespace liger::kernels::cuda

#endif  // LIGER_KERNELS_RMS_NORM_RMS_NORM_LAUNCH_H_
