#include <ATen/ATen.h>

#include "kernels/common/cpu.h"
#include "kernels/common/cuda.h"
#include "kernels/group_norm/group_norm_impl.h"
#include "kernels/group_norm/group_norm_launch.h"

namespace liger::kernels {
namespace {

constexpr char kOp[] = "group_norm";

cuda::GroupNormShape ShapeOf(const at::Tensor& x, const at::Tensor& weight, int64_t num_groups) {
  const GroupNormSizes s = GroupNormSizesOf(x, num_groups);
  return {.dtype = cuda::DtypeOf(x),
          .weight_dtype = cuda::DtypeOf(weight),
          .N = s.N,
          .C = s.C,
          .G = s.G,
          .L = s.L};
}

at::Tensor Scratch(const at::Tensor& x, int64_t floats) {
  return at::empty({floats}, x.options().dtype(at::kFloat));
}

}  // namespace

GroupNormForwardResult GroupNormForwardCuda(const at::Tensor& x_in, int64_t num_groups,
                                            const at::Tensor& weight_in,
                                            const std::optional<at::Tensor>& bias_in, double eps) {
  const cuda::Scope scope(x_in);
  const at::Tensor x = x_in.contiguous(), weight = weight_in.contiguous();
  const at::Tensor bias = bias_in ? bias_in->contiguous() : at::Tensor();
  const cuda::GroupNormShape shape = ShapeOf(x, weight, num_groups);
  at::Tensor y = at::empty(x.sizes(), x.options());
  at::Tensor mean = at::empty({shape.N, shape.G}, x.options().dtype(at::kFloat));
  at::Tensor rstd = at::empty_like(mean);
  const at::Tensor scratch = Scratch(x, cuda::GroupNormForwardScratch(shape));
  cuda::CheckLaunch(
      kOp, cuda::GroupNormForward(scope.queue(), shape, x.const_data_ptr(), weight.const_data_ptr(),
                                  bias_in ? bias.const_data_ptr() : nullptr, eps,
                                  MutableData<float>(scratch), y.mutable_data_ptr(),
                                  MutableData<float>(mean), MutableData<float>(rstd)));
  return {y, mean, rstd};
}

GroupNormBackwardResult GroupNormBackwardCuda(const at::Tensor& dy_in, const at::Tensor& x_in,
                                              const at::Tensor& weight_in,
                                              const at::Tensor& mean_in, const at::Tensor& rstd_in,
                                              GroupNormNeeds needs) {
  const cuda::Scope scope(x_in);
  const at::Tensor dy = dy_in.contiguous(), x = x_in.contiguous();
  const at::Tensor weight = weight_in.contiguous();
  const at::Tensor mean = mean_in.contiguous(), rstd = rstd_in.contiguous();
  const cuda::GroupNormShape shape = ShapeOf(x, weight, mean.size(1));
  at::Tensor dx = at::empty({0}, x.options());
  if (needs.dx) dx = at::empty(x.sizes(), x.options());
  at::Tensor dweight = at::empty({needs.dweight ? shape.C : 0}, weight.options());
  at::Tensor dbias = at::empty({needs.dbias ? shape.C : 0}, weight.options());
  const at::Tensor scratch = Scratch(x, cuda::GroupNormBackwardScratch(shape));
  cuda::CheckLaunch(
      kOp, cuda::GroupNormBackward(scope.queue(), shape, dy.const_data_ptr(), x.const_data_ptr(),
                                   weight.const_data_ptr(), Data<float>(mean), Data<float>(rstd),
                                   MutableData<float>(scratch),
                                   {.dx = needs.dx ? dx.mutable_data_ptr() : nullptr,
                                    .dweight = needs.dweight ? dweight.mutable_data_ptr() : nullptr,
                                    .dbias = needs.dbias ? dbias.mutable_data_ptr() : nullptr}));
  return {dx, dweight, dbias};
}

}  // namespace liger::kernels
