#include "kernels/dyt/dyt_impl.h"

#include <ATen/ATen.h>

#include "kernels/common/column_sums.h"
#include "kernels/common/cpu.h"
#include "kernels/common/cuda.h"
#include "kernels/dyt/dyt_launch.h"
#include "kernels/dyt/dyt_rows.h"

namespace liger::kernels {
namespace {

constexpr char kOp[] = "dyt";
using OptionalTensor = std::optional<at::Tensor>;

int64_t RowsOf(const at::Tensor& x) { return x.numel() / x.size(-1); }

at::Tensor Like(const at::Tensor& t, bool needed) {
  return needed ? at::empty(t.sizes(), t.options()) : at::empty({0}, t.options());
}

at::Tensor ForwardCpu(const at::Tensor& x_in, const at::Tensor& alpha, const at::Tensor& gamma,
                      const OptionalTensor& beta) {
  const at::Tensor x = x_in.contiguous(), w = gamma.to(at::kFloat).contiguous();
  const at::Tensor b = beta ? beta->to(at::kFloat).contiguous() : at::zeros_like(w);
  const float a = alpha.item<float>();
  at::Tensor y = Like(x, true);
  const int64_t H = x.size(-1);
  DispatchCpuDtype(x.scalar_type(), [&](auto t) {
    using T = decltype(t);
    const T* px = Data<T>(x);
    const float *pw = Data<float>(w), *pb = Data<float>(b);
    T* py = MutableData<T>(y);
    at::parallel_for(0, RowsOf(x), RowGrain(H), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) DytRow(px + r * H, a, pw, pb, H, py + r * H);
    });
  });
  return y;
}

DytGradients BackwardCpu(const at::Tensor& dy_in, const at::Tensor& x_in, const at::Tensor& alpha,
                         const at::Tensor& gamma, DytNeeds needs) {
  const at::Tensor dy = dy_in.contiguous(), x = x_in.contiguous();
  const at::Tensor w = gamma.to(at::kFloat).contiguous();
  const float a = alpha.item<float>();
  const int64_t H = x.size(-1), threads = at::get_num_threads();
  at::Tensor dx = Like(x, needs.dx);
  const at::Tensor dalpha = at::zeros({threads}, w.options().dtype(at::kDouble));
  const ColumnSums dgamma(needs.dgamma, H), dbeta(needs.dbeta, H);
  DispatchCpuDtype(x.scalar_type(), [&](auto t) {
    using T = decltype(t);
    const T *pdy = Data<T>(dy), *px = Data<T>(x);
    const float* pw = Data<float>(w);
    T* pdx = needs.dx ? MutableData<T>(dx) : nullptr;
    double* pda = MutableData<double>(dalpha);
    at::parallel_for(0, RowsOf(x), RowGrain(H), [&](int64_t begin, int64_t end) {
      const int64_t own = at::get_thread_num();
      float *dg = dgamma.Partial(), *db = dbeta.Partial();
      const auto row = [&](int64_t r) {
        pda[own] += DytBackwardRow(pdy + r * H, px + r * H, a, pw, H,
                                   pdx == nullptr ? nullptr : pdx + r * H, dg, db);
      };
      ForSummedRows(begin, end, row, dgamma, dbeta);
    });
  });
  const at::Tensor sum = dalpha.sum(0, /*keepdim=*/true).to(alpha.scalar_type());
  return {dx, needs.dalpha ? sum : at::empty({0}, alpha.options()),
          dgamma.Total(gamma.scalar_type()), dbeta.Total(gamma.scalar_type())};
}

at::Tensor ForwardAten(const at::Tensor& x, const at::Tensor& alpha, const at::Tensor& gamma,
                       const OptionalTensor& beta) {
  const auto compute = ComputeDtype(x);
  at::Tensor y = at::tanh(alpha.to(compute) * x.to(compute)) * gamma.to(compute);
  if (beta) y = y + beta->to(compute);
  return y.to(x.scalar_type()).contiguous();
}

DytGradients BackwardAten(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& alpha,
                          const at::Tensor& gamma, DytNeeds needs) {
  const auto compute = ComputeDtype(x);
  const int64_t H = x.size(-1);
  const at::Tensor g = dy.to(compute), z = x.to(compute), a = alpha.to(compute);
  const at::Tensor t = at::tanh(a * z), du = g * gamma.to(compute) * (1 - t * t);
  const auto columns = [&](const at::Tensor& v, bool needed) {
    return needed ? v.reshape({-1, H}).sum(0).to(gamma.scalar_type())
                  : at::empty({0}, gamma.options());
  };
  return {needs.dx ? (du * a).to(x.scalar_type()).contiguous() : Like(x, false),
          needs.dalpha ? (du * z).sum().to(alpha.scalar_type()).view({1}) : Like(alpha, false),
          columns(g * t, needs.dgamma), columns(g, needs.dbeta)};
}

cuda::RowsShape ShapeOf(const at::Tensor& x, const at::Tensor& gamma) {
  return {.dtype = cuda::DtypeOf(x),
          .weight_dtype = cuda::DtypeOf(gamma),
          .rows = RowsOf(x),
          .H = x.size(-1)};
}

at::Tensor ForwardCuda(const at::Tensor& x_in, const at::Tensor& alpha, const at::Tensor& gamma_in,
                       const OptionalTensor& beta_in) {
  const cuda::Scope scope(x_in);
  const at::Tensor x = x_in.contiguous(), gamma = gamma_in.contiguous();
  const at::Tensor beta = beta_in ? beta_in->contiguous() : at::Tensor();
  at::Tensor y = Like(x, true);
  cuda::CheckLaunch(
      kOp, cuda::DytForward(scope.queue(), ShapeOf(x, gamma), x.const_data_ptr(),
                            alpha.const_data_ptr(), gamma.const_data_ptr(),
                            beta_in ? beta.const_data_ptr() : nullptr, y.mutable_data_ptr()));
  return y;
}

DytGradients BackwardCuda(const at::Tensor& dy_in, const at::Tensor& x_in, const at::Tensor& alpha,
                          const at::Tensor& gamma_in, DytNeeds needs) {
  const cuda::Scope scope(x_in);
  const at::Tensor dy = dy_in.contiguous(), x = x_in.contiguous(), gamma = gamma_in.contiguous();
  const cuda::RowsShape shape = ShapeOf(x, gamma);
  at::Tensor dx = Like(x, needs.dx), dalpha = Like(alpha, needs.dalpha);
  at::Tensor dgamma = Like(gamma, needs.dgamma), dbeta = Like(gamma, needs.dbeta);
  const at::Tensor scratch =
      at::empty({cuda::DytBackwardScratch(scope.queue(), shape)}, x.options().dtype(at::kFloat));
  const auto out = [](const at::Tensor& t, bool needed) {
    return needed ? t.mutable_data_ptr() : nullptr;
  };
  cuda::CheckLaunch(kOp, cuda::DytBackward(scope.queue(), shape, dy.const_data_ptr(),
                                           x.const_data_ptr(), alpha.const_data_ptr(),
                                           gamma.const_data_ptr(), MutableData<float>(scratch),
                                           {.dx = out(dx, needs.dx),
                                            .dalpha = out(dalpha, needs.dalpha),
                                            .dgamma = out(dgamma, needs.dgamma),
                                            .dbeta = out(dbeta, needs.dbeta)}));
  return {dx, dalpha, dgamma, dbeta};
}

}  // namespace

at::Tensor DytForward(const at::Tensor& x, const at::Tensor& alpha, const at::Tensor& gamma,
                      const OptionalTensor& beta) {
  if constexpr (kHasCuda) {
    if (HasCudaKernels(x)) return ForwardCuda(x, alpha, gamma, beta);
  }
  return (HasCpuLoops(x) ? ForwardCpu : ForwardAten)(x, alpha, gamma, beta);
}

DytGradients DytBackward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& alpha,
                         const at::Tensor& gamma, DytNeeds needs) {
  if constexpr (kHasCuda) {
    if (HasCudaKernels(x)) return BackwardCuda(dy, x, alpha, gamma, needs);
  }
  return (HasCpuLoops(x) ? BackwardCpu : BackwardAten)(dy, x, alpha, gamma, needs);
}

}  // namespace liger::kernels
