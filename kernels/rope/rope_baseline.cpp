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

// Split by the sections twice, the i-th part of the axis i mod 3.
at::Tensor OneTable(const at::Tensor& table, at::IntArrayRef section) {
  if (section.empty()) return table;
  std::vector<int64_t> widths = section.vec();
  widths.insert(widths.end(), section.begin(), section.end());
  const auto parts = table.split_with_sizes(widths, -1);
  std::vector<at::Tensor> chosen;
  for (size_t i = 0; i < parts.size(); ++i) chosen.push_back(parts[i][static_cast<int64_t>(i % 3)]);
  return at::cat(chosen, -1);
}

}  // namespace

std::pair<at::Tensor, at::Tensor> Rope(const at::Tensor& q, const at::Tensor& k,
                                       const at::Tensor& cos_TR, const at::Tensor& sin_TR,
                                       at::IntArrayRef mrope_section) {
  RecordPath(Op::kRope, Path::kBaseline);
  // transformers rounds cos and sin to the hidden states' dtype.
  const auto table = [&](const at::Tensor& t) {
    return OneTable(t.to(q.scalar_type()), mrope_section).unsqueeze(1);
  };
  const at::Tensor cos = table(cos_TR), sin = table(sin_TR);
  return {Rotate(q, cos, sin), Rotate(k, cos, sin)};
}

}  // namespace liger::kernels::baseline
