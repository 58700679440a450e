#include <ATen/ATen.h>

#include "kernels/common/cpu.h"
#include "kernels/rms_norm/rms_norm_impl.h"

namespace liger::kernels {

RmsNormOutput RmsNormForwardAten(const at::Tensor& x_in, const OptionalTensor& residual,
                                 const at::Tensor& weight, double eps, double offset,
                                 RmsNormCasting casting) {
  const at::Tensor x = residual ? (x_in + *residual).contiguous() : x_in;
  const auto compute = ComputeDtype(x);
  const at::Tensor xc = x.to(compute);
  const at::Tensor rstd = at::rsqrt(xc.square().mean(-1, /*keepdim=*/true) + eps);
  at::Tensor xhat = xc * rstd;
  if (RoundsXhat(x, weight, casting)) xhat = xhat.to(x.scalar_type()).to(compute);
  at::Tensor y = (xhat * (weight.to(compute) + offset)).to(x.scalar_type()).contiguous();
  return {y, rstd.squeeze(-1), residual ? x : at::Tensor()};
}

RmsNormBackwardResult RmsNormBackwardAten(const at::Tensor& dy, const OptionalTensor& dsum,
                                          const at::Tensor& x, const at::Tensor& weight,
                                          const at::Tensor& rstd, double offset,
                                          RmsNormCasting casting, bool need_dx, bool need_dweight) {
  const auto compute = ComputeDtype(x);
  const at::Tensor dyc = dy.to(compute);
  const at::Tensor r = rstd.unsqueeze(-1);
  const at::Tensor xhat = x.to(compute) * r;
  at::Tensor dx = at::empty({0}, x.options()), dweight = at::empty({0}, weight.options());
  if (need_dx) {
    const at::Tensor g = dyc * (weight.to(compute) + offset);
    dx = r * (g - xhat * (g * xhat).mean(-1, /*keepdim=*/true));
    if (dsum) dx = dx + dsum->to(compute);
    dx = dx.to(x.scalar_type()).contiguous();
  }
  if (need_dweight) {
    const at::Tensor rounded =
        RoundsXhat(x, weight, casting) ? xhat.to(x.scalar_type()).to(compute) : xhat;
    dweight = (dyc * rounded).reshape({-1, x.size(-1)}).sum(0).to(weight.scalar_type());
  }
  return {dx, dweight};
}

}  // namespace liger::kernels
