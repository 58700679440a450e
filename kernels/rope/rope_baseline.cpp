#include <ATen/ATen.h>

#include "kernels/common/record.h"
#include "kernels/rope/rope.h"

namespace liger::kernels::baseline {
namespace {

at::Tensor RotateHalf(const at::Tensor& x) {
  const auto halves = x.chunk(2, -1);
  return at::cat({-halves[1], halves[0]}, -1);
}

at::Tensor Rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  const int64_t R = cos.size(-1), D = x.size(-1);
  const at::Tensor rotary = R == D ? x : x.narrow(-1, 0, R);
  const at::Tensor y = rotary * cos + RotateHalf(rotary) * sin;
  return R == D ? y : at::cat({y, x.narrow(-1, R, D - R)}, -1);
}

}  // namespace

std::pair<at::Tensor, at::Tensor> Rope(const at::Tensor& q, const at::Tensor& k,
                                       const at::Tensor& cos_TR, const at::Tensor& sin_TR) {
  RecordPath(Op::kRope, Path::kBaseline);
  // transformers rounds cos and sin to the hidden states' dtype.
  const at::Tensor cos = cos_TR.to(q.scalar_type()).unsqueeze(1);
  const at::Tensor sin = sin_TR.to(q.scalar_type()).unsqueeze(1);
  return {Rotate(q, cos, sin), Rotate(k, cos, sin)};
}

}  // namespace liger::kernels::baseline
