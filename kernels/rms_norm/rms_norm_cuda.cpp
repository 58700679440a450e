#include <ATen/ATen.h>

#include "kernels/common/cpu.h"
#include "kernels/common/cuda.h"
#include "kernels/rms_norm/rms_norm_impl.h"
#include "kernels/rms_norm/rms_norm_launch.h"

namespace liger::kernels {
namespace {

cuda::RmsNormShape ShapeOf(const at::Tensor& x, const at::Tensor& weight, double offset,
                           RmsNormCasting casting) {
  const int64_t H = x.size(-1);
  return {.dtype = cuda::DtypeOf(x),
          .weight_dtype = cuda::DtypeOf(weight),
          .rows = x.numel() / H,
          .H = H,
          .offset = static_cast<float>(offset),
          .round_xhat = RoundsXhat(x, weight, casting)};
}

}  // namespace

RmsNormOutput RmsNormForwardCuda(const char* op, const at::Tensor& x_in,
                                 const OptionalTensor& residual_in, const at::Tensor& weight_in,
                                 double eps, double offset, RmsNormCasting casting) {
  const cuda::Scope scope(x_in);
  const at::Tensor x = x_in.contiguous(), weight = weight_in.contiguous();
  const at::Tensor residual = residual_in ? residual_in->contiguous() : at::Tensor();
  at::Tensor y = at::empty(x.sizes(), x.options()), sum;
  if (residual_in) sum = at::empty(x.sizes(), x.options());
  at::Tensor rstd = at::empty(x.sizes().slice(0, static_cast<size_t>(x.dim() - 1)),
                              x.options().dtype(at::kFloat));
  cuda::CheckLaunch(op, cuda::RmsNormForward(scope.queue(), ShapeOf(x, weight, offset, casting),
                                             x.const_data_ptr(),
                                             residual_in ? residual.const_data_ptr() : nullptr,
                                             weight.const_data_ptr(), eps, y.mutable_data_ptr(),
                                             residual_in ? sum.mutable_data_ptr() : nullptr,
                                             MutableData<float>(rstd)));
  return {y, rstd, sum};
}

RmsNormBackwardResult RmsNormBackwardCuda(const char* op, const at::Tensor& dy_in,
                                          const OptionalTensor& dsum_in, const at::Tensor& x_in,
                                          const at::Tensor& weight_in, const at::Tensor& rstd_in,
                                          double offset, RmsNormCasting casting, bool need_dx,
                                          bool need_dweight) {
  const cuda::Scope scope(x_in);
  const at::Tensor dy = dy_in.contiguous(), x = x_in.contiguous(), rstd = rstd_in.contiguous();
  const at::Tensor weight = weight_in.contiguous();
  const at::Tensor dsum = dsum_in ? dsum_in->contiguous() : at::Tensor();
  const cuda::RmsNormShape shape = ShapeOf(x, weight, offset, casting);
  at::Tensor dx = at::empty({0}, x.options()), dweight = at::empty({0}, weight.options());
  at::Tensor scratch;
  if (need_dx) dx = at::empty(x.sizes(), x.options());
  if (need_dweight) {
    dweight = at::empty(weight.sizes(), weight.options());
    scratch = at::empty({cuda::RmsNormScratchRows(scope.queue(), shape), shape.H},
                        x.options().dtype(at::kFloat));
  }
  cuda::CheckLaunch(
      op, cuda::RmsNormBackward(scope.queue(), shape, dy.const_data_ptr(), x.const_data_ptr(),
                                weight.const_data_ptr(), Data<float>(rstd),
                                dsum_in ? dsum.const_data_ptr() : nullptr,
                                need_dx ? dx.mutable_data_ptr() : nullptr,
                                need_dweight ? dweight.mutable_data_ptr() : nullptr,
                                need_dweight ? MutableData<float>(scratch) : nullptr));
  return {dx, dweight};
}

}  // namespace liger::kernels
