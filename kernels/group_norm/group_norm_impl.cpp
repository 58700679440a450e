#include "kernels/group_norm/group_norm_impl.h"

#include <ATen/ATen.h>

#include "kernels/common/cpu.h"
#include "kernels/common/cuda.h"
#include "kernels/group_norm/group_norm_rows.h"

namespace liger::kernels {
namespace {

GroupNormForwardResult ForwardCpu(const at::Tensor& x_in, int64_t num_groups,
                                  const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                                  double eps) {
  const at::Tensor x = x_in.contiguous(), w = weight.to(at::kFloat).contiguous();
  const at::Tensor b = bias ? bias->to(at::kFloat).contiguous() : at::zeros_like(w);
  const GroupNormSizes s = GroupNormSizesOf(x, num_groups);
  at::Tensor y = at::empty(x.sizes(), x.options());
  at::Tensor mean = at::empty({s.N, s.G}, w.options()), rstd = at::empty_like(mean);
  DispatchCpuDtype(x.scalar_type(), [&](auto t) {
    using T = decltype(t);
    const T* px = Data<T>(x);
    T* py = MutableData<T>(y);
    const float *pw = Data<float>(w), *pb = Data<float>(b);
    float *pmean = MutableData<float>(mean), *prstd = MutableData<float>(rstd);
    at::parallel_for(0, s.groups(), RowGrain(s.elements()), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t first = r * s.elements(), channel = r % s.G * s.channels();
        const RowStats stats = GroupNormRow(px + first, pw + channel, pb + channel, s.channels(),
                                            s.L, eps, py + first);
        pmean[r] = stats.mean;
        prstd[r] = stats.rstd;
      }
    });
  });
  return {y, mean, rstd};
}

GroupNormBackwardResult BackwardCpu(const at::Tensor& dy_in, const at::Tensor& x_in,
                                    const at::Tensor& weight, const at::Tensor& mean_in,
                                    const at::Tensor& rstd_in, GroupNormNeeds needs) {
  const at::Tensor dy = dy_in.contiguous(), x = x_in.contiguous();
  const at::Tensor mean = mean_in.contiguous(), rstd = rstd_in.contiguous();
  const at::Tensor w = weight.to(at::kFloat).contiguous();
  const GroupNormSizes s = GroupNormSizesOf(x, mean.size(1));
  const int64_t threads = at::get_num_threads();
  at::Tensor dx = needs.dx ? at::empty(x.sizes(), x.options()) : at::empty({0}, x.options());
  // As in layer_norm: a row of partial sums for each thread.
  const at::Tensor dw = at::zeros({needs.dweight ? threads : 0, s.C}, w.options());
  const at::Tensor db = at::zeros({needs.dbias ? threads : 0, s.C}, w.options());
  DispatchCpuDtype(x.scalar_type(), [&](auto t) {
    using T = decltype(t);
    const T *pdy = Data<T>(dy), *px = Data<T>(x);
    const float *pw = Data<float>(w), *pmean = Data<float>(mean), *prstd = Data<float>(rstd);
    T* pdx = needs.dx ? MutableData<T>(dx) : nullptr;
    float* pdw = needs.dweight ? MutableData<float>(dw) : nullptr;
    float* pdb = needs.dbias ? MutableData<float>(db) : nullptr;
    at::parallel_for(0, s.groups(), RowGrain(s.elements()), [&](int64_t begin, int64_t end) {
      const int64_t own = at::get_thread_num() * s.C;
      for (int64_t r = begin; r < end; ++r) {
        const int64_t first = r * s.elements(), channel = r % s.G * s.channels();
        GroupNormBackwardRow(pdy + first, px + first, pw + channel, {pmean[r], prstd[r]},
                             s.channels(), s.L, pdx == nullptr ? nullptr : pdx + first,
                             pdw == nullptr ? nullptr : pdw + own + channel,
                             pdb == nullptr ? nullptr : pdb + own + channel);
      }
    });
  });
  const at::Tensor none = at::empty({0}, weight.options());
  return {dx, needs.dweight ? dw.sum(0).to(weight.scalar_type()) : none,
          needs.dbias ? db.sum(0).to(weight.scalar_type()) : none.clone()};
}

// Weights of a channel as x in groups [N, G, C / G, L] takes them.
at::Tensor PerGroup(const at::Tensor& v, const GroupNormSizes& s, at::ScalarType dtype) {
  return v.to(dtype).view({1, s.G, s.channels(), 1});
}

at::Tensor InGroups(const at::Tensor& x, const GroupNormSizes& s, at::ScalarType dtype) {
  return x.contiguous().view({s.N, s.G, s.channels(), s.L}).to(dtype);
}

GroupNormForwardResult ForwardAten(const at::Tensor& x, int64_t num_groups,
                                   const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                                   double eps) {
  const auto compute = ComputeDtype(x);
  const GroupNormSizes s = GroupNormSizesOf(x, num_groups);
  const at::Tensor xc = InGroups(x, s, compute);
  const at::Tensor mean = xc.mean({2, 3}, /*keepdim=*/true), centred = xc - mean;
  const at::Tensor rstd = at::rsqrt(centred.square().mean({2, 3}, /*keepdim=*/true) + eps);
  at::Tensor y = centred * rstd * PerGroup(weight, s, compute);
  if (bias) y = y + PerGroup(*bias, s, compute);
  return {y.to(x.scalar_type()).view(x.sizes()), mean.view({s.N, s.G}), rstd.view({s.N, s.G})};
}

GroupNormBackwardResult BackwardAten(const at::Tensor& dy, const at::Tensor& x,
                                     const at::Tensor& weight, const at::Tensor& mean,
                                     const at::Tensor& rstd, GroupNormNeeds needs) {
  const auto compute = ComputeDtype(x);
  const GroupNormSizes s = GroupNormSizesOf(x, mean.size(1));
  const at::Tensor dyc = InGroups(dy, s, compute);
  const auto of_group = [&](const at::Tensor& t) { return t.contiguous().view({s.N, s.G, 1, 1}); };
  const at::Tensor r = of_group(rstd), xhat = (InGroups(x, s, compute) - of_group(mean)) * r;
  at::Tensor dx = at::empty({0}, x.options());
  at::Tensor dweight = at::empty({0}, weight.options()), dbias = at::empty({0}, weight.options());
  if (needs.dx) {
    const at::Tensor g = dyc * PerGroup(weight, s, compute);
    dx = r * (g - g.mean({2, 3}, true) - xhat * (g * xhat).mean({2, 3}, true));
    dx = dx.to(x.scalar_type()).view(x.sizes());
  }
  const auto of_channel = [&](const at::Tensor& t) {
    return t.sum(at::IntArrayRef{0, 3}).view({s.C}).to(weight.scalar_type());
  };
  if (needs.dweight) dweight = of_channel(dyc * xhat);
  if (needs.dbias) dbias = of_channel(dyc);
  return {dx, dweight, dbias};
}

}  // namespace

GroupNormSizes GroupNormSizesOf(const at::Tensor& x, int64_t num_groups) {
  int64_t L = 1;
  for (int64_t d = 2; d < x.dim(); ++d) L *= x.size(d);
  return {.N = x.size(0), .C = x.size(1), .G = num_groups, .L = L};
}

GroupNormForwardResult GroupNormForward(const at::Tensor& x, int64_t num_groups,
                                        const at::Tensor& weight,
                                        const std::optional<at::Tensor>& bias, double eps) {
  if constexpr (kHasCuda) {
    if (HasCudaKernels(x)) return GroupNormForwardCuda(x, num_groups, weight, bias, eps);
  }
  const auto run = HasCpuLoops(x) ? ForwardCpu : ForwardAten;
  return run(x, num_groups, weight, bias, eps);
}

GroupNormBackwardResult GroupNormBackward(const at::Tensor& dy, const at::Tensor& x,
                                          const at::Tensor& weight, const at::Tensor& mean,
                                          const at::Tensor& rstd, GroupNormNeeds needs) {
  if constexpr (kHasCuda) {
    if (HasCudaKernels(x)) return GroupNormBackwardCuda(dy, x, weight, mean, rstd, needs);
  }
  const auto run = HasCpuLoops(x) ? BackwardCpu : BackwardAten;
  return run(dy, x, weight, mean, rstd, needs);
}

}  // namespace liger::kernels
