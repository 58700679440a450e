#include <ATen/ATen.h>

#include "kernels/common/record.h"
#include "kernels/fused_add_rms_norm/fused_add_rms_norm.h"

namespace liger::kernels::baseline {
namespace {

at::Tensor Norm(const at::Tensor& x, const at::Tensor& weight, double eps, double offset,
                RmsNormCasting casting) {
  if (casting == RmsNormCasting::kNone) {
    return x * at::rsqrt(x.square().mean(-1, /*keepdim=*/true) + eps) * (weight + offset);
  }
  const auto dtype = x.scalar_type();
  const auto compute = dtype == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor xc = x.to(compute);
  const at::Tensor variance = xc.pow(2).mean(-1, /*keepdim=*/true);
  const at::Tensor xhat = xc * at::rsqrt(variance + eps);
  if (casting == RmsNormCasting::kGemma) return (xhat * (offset + weight.to(compute))).to(dtype);
  return (offset == 0.0 ? weight : weight + offset) * xhat.to(dtype);
}

}  // namespace

at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps, double offset,
                   RmsNormCasting casting) {
  RecordPath(Op::kRmsNorm, Path::kBaseline);
  return Norm(x, weight, eps, offset, casting);
}

std::pair<at::Tensor, at::Tensor> FusedAddRmsNorm(const at::Tensor& x, const at::Tensor& residual,
                                                  const at::Tensor& weight, double eps,
                                                  double offset, RmsNormCasting casting) {
  RecordPath(Op::kFusedAddRmsNorm, Path::kBaseline);
  const at::Tensor sum = residual + x;
  return {Norm(sum, weight, eps, offset, casting), sum};
}

}  // namespace liger::kernels::baseline
