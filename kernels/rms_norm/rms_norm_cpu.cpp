#include <ATen/ATen.h>

#include "kernels/common/column_sums.h"
#include "kernels/common/cpu.h"
#include "kernels/rms_norm/rms_norm_impl.h"
#include "kernels/rms_norm/rms_norm_rows.h"

namespace liger::kernels {
namespace {

at::Tensor FloatWeight(const at::Tensor& weight, double offset) {
  const at::Tensor w = weight.to(at::kFloat).contiguous();
  return offset == 0.0 ? w : w + offset;
}

}  // namespace

RmsNormOutput RmsNormForwardCpu(const at::Tensor& x_in, const OptionalTensor& residual_in,
                                const at::Tensor& weight, double eps, double offset,
                                RmsNormCasting casting) {
  const at::Tensor x = x_in.contiguous();
  const at::Tensor w = FloatWeight(weight, offset);
  const bool round_xhat = RoundsXhat(x, weight, casting);
  const int64_t H = x.size(-1), rows = x.numel() / H;
  const at::Tensor residual = residual_in ? residual_in->contiguous() : at::Tensor();
  at::Tensor y = at::empty_like(x), sum;
  if (residual_in) sum = at::empty_like(x);
  at::Tensor rstd = at::empty(x.sizes().slice(0, x.dim() - 1), x.options().dtype(at::kFloat));
  DispatchCpuDtype(x.scalar_type(), [&](auto t) {
    using T = decltype(t);
    const T* px = Data<T>(x);
    const T* presidual = residual_in ? Data<T>(residual) : nullptr;
    T *py = MutableData<T>(y), *psum = residual_in ? MutableData<T>(sum) : nullptr;
    const float* pw = Data<float>(w);
    float* prstd = MutableData<float>(rstd);
    at::parallel_for(0, rows, RowGrain(H), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const T* row = px + r * H;
        if (psum != nullptr) {
          AddRow(row, presidual + r * H, H, psum + r * H);
          row = psum + r * H;
        }
        prstd[r] = RmsNormRow(row, pw, H, eps, round_xhat, py + r * H);
      }
    });
  });
  return {y, rstd, sum};
}

RmsNormBackwardResult RmsNormBackwardCpu(const at::Tensor& dy_in, const OptionalTensor& dsum_in,
                                         const at::Tensor& x_in, const at::Tensor& weight,
                                         const at::Tensor& rstd, double offset,
                                         RmsNormCasting casting, bool need_dx, bool need_dweight) {
  const at::Tensor dy = dy_in.contiguous(), x = x_in.contiguous();
  const at::Tensor w = FloatWeight(weight, offset);
  const at::Tensor rstd_c = rstd.contiguous();
  const at::Tensor dsum = dsum_in ? dsum_in->contiguous() : at::Tensor();
  const bool round_xhat = RoundsXhat(x, weight, casting);
  const int64_t H = x.size(-1), rows = x.numel() / H;
  at::Tensor dx = need_dx ? at::empty_like(x) : at::empty({0}, x.options());
  const ColumnSums dweight(need_dweight, H);
  DispatchCpuDtype(x.scalar_type(), [&](auto t) {
    using T = decltype(t);
    const T* pdy = Data<T>(dy);
    const T* px = Data<T>(x);
    const float* pw = Data<float>(w);
    const float* prstd = Data<float>(rstd_c);
    const T* pdsum = dsum_in ? Data<T>(dsum) : nullptr;
    T* pdx = need_dx ? MutableData<T>(dx) : nullptr;
    at::parallel_for(0, rows, RowGrain(H), [&](int64_t begin, int64_t end) {
      float* dw = dweight.Partial();
      const auto row = [&](int64_t r) {
        RmsNormBackwardRow(pdy + r * H, px + r * H, pw, prstd[r], H, round_xhat,
                           pdsum == nullptr ? nullptr : pdsum + r * H,
                           pdx == nullptr ? nullptr : pdx + r * H, dw);
      };
      ForSummedRows(begin, end, row, dweight);
    });
  });
  return {dx, dweight.Total(weight.scalar_type())};
}

}  // namespace liger::kernels
