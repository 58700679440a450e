#include "kernels/rope/rope_impl.h"

#include <ATen/ATen.h>

#include "kernels/common/cpu.h"
#include "kernels/common/cuda.h"
#include "kernels/common/unit_stride.h"
#include "kernels/rope/rope_launch.h"
#include "kernels/rope/rope_rows.h"

namespace liger::kernels {
namespace {

at::Tensor RotateAten(const at::Tensor& x_TND, const at::Tensor& cos_TR, const at::Tensor& sin_TR,
                      RopeDirection direction) {
  const auto compute = ComputeDtype(x_TND);
  const int64_t R = cos_TR.size(1), D = x_TND.size(2);
  const at::Tensor x = x_TND.to(compute);
  const at::Tensor a = x.narrow(2, 0, R / 2), b = x.narrow(2, R / 2, R / 2);
  const auto cos = cos_TR.to(compute).unsqueeze(1).chunk(2, -1);
  const auto sin = sin_TR.to(compute).unsqueeze(1).chunk(2, -1);
  const bool forward = direction == RopeDirection::kForward;
  const at::Tensor first = forward ? a * cos[0] - b * sin[0] : a * cos[0] + b * sin[1];
  const at::Tensor second = forward ? b * cos[1] + a * sin[1] : b * cos[1] - a * sin[0];
  return at::cat({first, second, x.narrow(2, R, D - R)}, -1).to(x_TND.scalar_type());
}

}  // namespace

at::Tensor OneRopeTable(const at::Tensor& table, at::IntArrayRef section) {
  if (section.empty()) return table;
  std::vector<at::Tensor> parts;
  int64_t begin = 0;
  for (int half = 0; half < 2; ++half) {
    for (int64_t axis = 0; axis < 3; ++axis) {
      const int64_t width = section[static_cast<size_t>(axis)];
      parts.push_back(table.select(0, axis).narrow(1, begin, width));
      begin += width;
    }
  }
  return at::cat(parts, 1);
}

void RopeIntoCpu(const at::Tensor& x, const at::Tensor& cos_TR, const at::Tensor& sin_TR,
                 RopeDirection direction, const at::Tensor& y) {
  const int64_t T = x.size(0), N = x.size(1), D = x.size(2), R = cos_TR.size(1);
  const at::Tensor cos = cos_TR.to(at::kFloat).contiguous();
  const at::Tensor sin = sin_TR.to(at::kFloat).contiguous();
  const int64_t x_token = x.stride(0), x_head = x.stride(1);
  const int64_t y_token = y.stride(0), y_head = y.stride(1);
  DispatchCpuDtype(x.scalar_type(), [&](auto t) {
    using E = decltype(t);
    const E* px = Data<E>(x);
    E* py = MutableData<E>(y);
    const float *pcos = Data<float>(cos), *psin = Data<float>(sin);
    using Rotate = void (*)(const E*, const float*, const float*, int64_t, int64_t, E*);
    const Rotate forward = RopeRow, backward = RopeBackwardRow;
    const Rotate rotate = direction == RopeDirection::kForward ? forward : backward;
    at::parallel_for(0, T, RowGrain(N * D), [&](int64_t begin, int64_t end) {
      for (int64_t token = begin; token < end; ++token) {
        for (int64_t n = 0; n < N; ++n) {
          rotate(px + token * x_token + n * x_head, pcos + token * R, psin + token * R, R, D,
                 py + token * y_token + n * y_head);
        }
      }
    });
  });
}

#ifdef LIGER_WITH_CUDA
void RopeIntoCuda(const at::Tensor& q, const at::Tensor& k, const at::Tensor& cos_TR,
                  const at::Tensor& sin_TR, at::IntArrayRef section, RopeDirection direction,
                  const at::Tensor& y_q, const at::Tensor& y_k) {
  const cuda::Scope scope(q);
  // One dtype for both: the wider of the two.
  const bool widen = cos_TR.scalar_type() != sin_TR.scalar_type();
  const auto table = [&](const at::Tensor& t) {
    return (widen ? t.to(at::kFloat) : t).contiguous();
  };
  const at::Tensor cos = table(cos_TR), sin = table(sin_TR);
  const auto heads = [](const at::Tensor& x, const at::Tensor& y) -> cuda::RopeHeads {
    return {.x = x.const_data_ptr(),
            .y = y.mutable_data_ptr(),
            .heads = x.size(1),
            .x_token = x.stride(0),
            .x_head = x.stride(1),
            .y_token = y.stride(0),
            .y_head = y.stride(1)};
  };
  const cuda::RopeTables tables{
      .dtype = cuda::DtypeOf(cos),
      .R = cos.size(-1),
      .cos = cos.const_data_ptr(),
      .sin = sin.const_data_ptr(),
      .first_end = section.empty() ? cos.size(-1) / 2 : section[0],
      .second_end = section.empty() ? cos.size(-1) / 2 : section[0] + section[1]};
  cuda::CheckLaunch("rope",
                    cuda::Rope(scope.queue(), cuda::DtypeOf(q), q.size(0), q.size(2), heads(q, y_q),
                               heads(k, y_k), tables, direction == RopeDirection::kBackward));
}
#endif

at::Tensor RopeRotate(const at::Tensor& x_TND, const at::Tensor& cos_TR, const at::Tensor& sin_TR,
                      RopeDirection direction) {
  if (!HasCpuLoops(x_TND)) return RotateAten(x_TND, cos_TR, sin_TR, direction);
  const at::Tensor x = WithUnitStride(x_TND);
  at::Tensor y = at::empty(x.sizes(), x.options());
  RopeIntoCpu(x, cos_TR, sin_TR, direction, y);
  return y;
}

}  // namespace liger::kernels
