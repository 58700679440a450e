#include "kernels/layer_norm/layer_norm_impl.h"

#include <ATen/ATen.h>

#include "kernels/common/column_sums.h"
#include "kernels/common/cpu.h"
#include "kernels/common/cuda.h"
#include "kernels/layer_norm/layer_norm_rows.h"

namespace liger::kernels {
namespace {

int64_t RowsOf(const at::Tensor& x) { return x.numel() / x.size(-1); }

LayerNormForwardResult ForwardCpu(const at::Tensor& x_in, const at::Tensor& weight,
                                  const std::optional<at::Tensor>& bias, double eps) {
  const at::Tensor x = x_in.contiguous(), w = weight.to(at::kFloat).contiguous();
  const at::Tensor b = bias ? bias->to(at::kFloat).contiguous() : at::zeros_like(w);
  const int64_t H = x.size(-1);
  at::Tensor y = at::empty_like(x);
  at::Tensor mean = at::empty(x.sizes().slice(0, static_cast<size_t>(x.dim() - 1)), w.options());
  at::Tensor rstd = at::empty_like(mean);
  DispatchCpuDtype(x.scalar_type(), [&](auto t) {
    using T = decltype(t);
    const T* px = Data<T>(x);
    T* py = MutableData<T>(y);
    const float *pw = Data<float>(w), *pb = Data<float>(b);
    float *pmean = MutableData<float>(mean), *prstd = MutableData<float>(rstd);
    at::parallel_for(0, RowsOf(x), RowGrain(H), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const LayerNormStats stats = LayerNormRow(px + r * H, pw, pb, H, eps, py + r * H);
        pmean[r] = stats.mean;
        prstd[r] = stats.rstd;
      }
    });
  });
  return {y, mean, rstd};
}

LayerNormBackwardResult BackwardCpu(const at::Tensor& dy_in, const at::Tensor& x_in,
                                    const at::Tensor& weight, const at::Tensor& mean_in,
                                    const at::Tensor& rstd_in, LayerNormNeeds needs) {
  const at::Tensor dy = dy_in.contiguous(), x = x_in.contiguous();
  const at::Tensor mean = mean_in.contiguous(), rstd = rstd_in.contiguous();
  const at::Tensor w = weight.to(at::kFloat).contiguous();
  const int64_t H = x.size(-1);
  at::Tensor dx = needs.dx ? at::empty_like(x) : at::empty({0}, x.options());
  const ColumnSums dweight(needs.dweight, H), dbias(needs.dbias, H);
  DispatchCpuDtype(x.scalar_type(), [&](auto t) {
    using T = decltype(t);
    const T *pdy = Data<T>(dy), *px = Data<T>(x);
    const float *pw = Data<float>(w), *pmean = Data<float>(mean), *prstd = Data<float>(rstd);
    T* pdx = needs.dx ? MutableData<T>(dx) : nullptr;
    at::parallel_for(0, RowsOf(x), RowGrain(H), [&](int64_t begin, int64_t end) {
      float *dw = dweight.Partial(), *db = dbias.Partial();
      const auto row = [&](int64_t r) {
        LayerNormBackwardRow(pdy + r * H, px + r * H, pw, {pmean[r], prstd[r]}, H,
                             pdx == nullptr ? nullptr : pdx + r * H, dw, db);
      };
      ForSummedRows(begin, end, row, dweight, dbias);
    });
  });
  return {dx, dweight.Total(weight.scalar_type()), dbias.Total(weight.scalar_type())};
}

LayerNormForwardResult ForwardAten(const at::Tensor& x, const at::Tensor& weight,
                                   const std::optional<at::Tensor>& bias, double eps) {
  const auto compute = ComputeDtype(x);
  const at::Tensor xc = x.to(compute), mean = xc.mean(-1, /*keepdim=*/true);
  const at::Tensor centred = xc - mean;
  const at::Tensor rstd = at::rsqrt(centred.square().mean(-1, /*keepdim=*/true) + eps);
  at::Tensor y = centred * rstd * weight.to(compute);
  if (bias) y = y + bias->to(compute);
  return {y.to(x.scalar_type()).contiguous(), mean.squeeze(-1), rstd.squeeze(-1)};
}

LayerNormBackwardResult BackwardAten(const at::Tensor& dy, const at::Tensor& x,
                                     const at::Tensor& weight, const at::Tensor& mean,
                                     const at::Tensor& rstd, LayerNormNeeds needs) {
  const auto compute = ComputeDtype(x);
  const int64_t H = x.size(-1);
  const at::Tensor dyc = dy.to(compute), r = rstd.unsqueeze(-1);
  const at::Tensor xhat = (x.to(compute) - mean.unsqueeze(-1)) * r;
  at::Tensor dx = at::empty({0}, x.options());
  at::Tensor dweight = at::empty({0}, weight.options()), dbias = at::empty({0}, weight.options());
  if (needs.dx) {
    const at::Tensor g = dyc * weight.to(compute);
    dx = r * (g - g.mean(-1, /*keepdim=*/true) - xhat * (g * xhat).mean(-1, /*keepdim=*/true));
    dx = dx.to(x.scalar_type()).contiguous();
  }
  if (needs.dweight) dweight = (dyc * xhat).reshape({-1, H}).sum(0).to(weight.scalar_type());
  if (needs.dbias) dbias = dyc.reshape({-1, H}).sum(0).to(weight.scalar_type());
  return {dx, dweight, dbias};
}

}  // namespace

LayerNormForwardResult LayerNormForward(const at::Tensor& x, const at::Tensor& weight,
                                        const std::optional<at::Tensor>& bias, double eps) {
  if constexpr (kHasCuda) {
    if (HasCudaKernels(x)) return LayerNormForwardCuda(x, weight, bias, eps);
  }
  return HasCpuLoops(x) ? ForwardCpu(x, weight, bias, eps) : ForwardAten(x, weight, bias, eps);
}

LayerNormBackwardResult LayerNormBackward(const at::Tensor& dy, const at::Tensor& x,
                                          const at::Tensor& weight, const at::Tensor& mean,
                                          const at::Tensor& rstd, LayerNormNeeds needs) {
  if constexpr (kHasCuda) {
    if (HasCudaKernels(x)) return LayerNormBackwardCuda(dy, x, weight, mean, rstd, needs);
  }
  const auto run = HasCpuLoops(x) ? BackwardCpu : BackwardAten;
  return run(dy, x, weight, mean, rstd, needs);
}

}  // namespace liger::kernels
