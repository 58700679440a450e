#include "kernels/divergence/divergence_impl.h"

#include <ATen/ATen.h>

#include "kernels/common/cpu.h"
#include "kernels/common/cuda.h"
#include "kernels/common/optional_output.h"
#include "kernels/divergence/divergence_launch.h"

namespace liger::kernels::divergence {
namespace {

// In double: logarithms have no vectorised form here, and the C library's takes as long in float.
template <typename T, typename F>
double Row(const T* x, const T* y, int64_t V, const F& term, double scale, T* terms, T* grad) {
  double sum = 0;
  for (int64_t v = 0; v < V; ++v) {
    const Term<double> t = term(double{ToFloat(x[v])}, double{ToFloat(y[v])});
    sum += t.loss;
    if (terms != nullptr) terms[v] = FromFloat<T>(static_cast<float>(t.loss));
    if (grad != nullptr) grad[v] = FromFloat<T>(static_cast<float>(scale * t.grad));
  }
  return sum;
}

template <typename T, typename F>
void RunRows(const Inputs& in, const F& term, const at::Tensor& row_sums, const at::Tensor& terms,
             const at::Tensor& grad, const at::Tensor& scale) {
  const int64_t N = in.input.size(0), V = in.input.size(1);
  const T *x = Data<T>(in.input), *y = Data<T>(in.target);
  const int64_t* label = in.label.has_value() ? Data<int64_t>(*in.label) : nullptr;
  double* sums = MutableData<double>(row_sums);
  T *to_terms = MutableOrNull<T>(terms), *to_grad = MutableOrNull<T>(grad);
  const double factor = *Data<double>(scale);
  const auto at_row = [&](T* p, int64_t n) { return p == nullptr ? nullptr : p + n * V; };
  at::parallel_for(0, N, RowGrain(V), [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      T *row_terms = at_row(to_terms, n), *row_grad = at_row(to_grad, n);
      if (label != nullptr && label[n] == in.ignore_index) {
        sums[n] = 0;
        if (row_terms != nullptr) std::fill_n(row_terms, V, FromFloat<T>(0));
        if (row_grad != nullptr) std::fill_n(row_grad, V, FromFloat<T>(0));
      } else {
        sums[n] = Row(x + n * V, y + n * V, V, term, factor, row_terms, row_grad);
      }
    }
  });
}

struct Tensors {
  at::Tensor loss, grad;
};

// The terms as divergence_terms.h has them, in ATen's ops.
Tensors TermsAten(Kind kind, double parameter, const at::Tensor& x, const at::Tensor& y) {
  const at::Tensor zero = at::zeros({}, x.options());
  const auto where_any = [&](const at::Tensor& p, const at::Tensor& value) {
    return at::where(p == 0, zero, value);
  };
  const bool reverse = kind == Kind::kJsd && parameter == 1;
  if (kind == Kind::kTvd) return {(x - y).abs() / 2, (x - y).sign() / 2};
  if (kind == Kind::kKl) {
    return {where_any(y, y * (y.clamp_min(parameter).log() - x)), -y};
  }
  const at::Tensor p = y.exp(), q = x.exp();
  if (reverse) return {where_any(q, q * (x - y)), where_any(q, q * (x - y + 1))};
  if (kind == Kind::kKlLog || parameter == 0) return {where_any(p, p * (y - x)), -p};
  const at::Tensor weighted_p = parameter * p, weighted_q = (1 - parameter) * q;
  const at::Tensor log_m = (weighted_p + weighted_q).log();
  const at::Tensor of_p = where_any(weighted_p, weighted_p * (y - log_m));
  const at::Tensor of_q = where_any(weighted_q, weighted_q * (x - log_m));
  return {of_p + of_q, of_q};
}

void RunAten(const Inputs& in, const at::Tensor& row_sums, const at::Tensor& terms,
             const at::Tensor& grad, const at::Tensor& scale) {
  const auto compute = ComputeDtype(in.input);
  auto [loss, d] = TermsAten(in.kind, in.parameter, in.input.to(compute), in.target.to(compute));
  d = d * scale.to(compute);
  if (in.label.has_value()) {
    const at::Tensor ignored = (*in.label == in.ignore_index).unsqueeze(1);
    loss = loss.masked_fill(ignored, 0);
    d = d.masked_fill(ignored, 0);
  }
  row_sums.copy_(loss.sum(1, false, at::kDouble));
  if (terms.defined()) terms.copy_(loss);
  if (grad.defined()) grad.copy_(d);
}

void RunCuda(const Inputs& in, const at::Tensor& row_sums, const at::Tensor& terms,
             const at::Tensor& grad, const at::Tensor& scale, const double* upstream) {
  const cuda::Scope scope(in.input);
  const cuda::DivergenceIn from{.dtype = cuda::DtypeOf(in.input),
                                .N = in.input.size(0),
                                .V = in.input.size(1),
                                .input = in.input.const_data_ptr(),
                                .target = in.target.const_data_ptr(),
                                .label = in.label.has_value() ? Data<int64_t>(*in.label) : nullptr,
                                .ignore_index = in.ignore_index};
  const cuda::DivergenceOut to{.row_sums = MutableData<double>(row_sums),
                               .terms = terms.defined() ? terms.mutable_data_ptr() : nullptr,
                               .grad = grad.defined() ? grad.mutable_data_ptr() : nullptr,
                               .scale = Data<double>(scale),
                               .upstream = upstream};
  cuda::CheckLaunch("divergence", cuda::Divergence(scope.queue(), in.kind, in.parameter, from, to));
}

}  // namespace

void Run(const Inputs& in, const at::Tensor& row_sums, const at::Tensor& terms,
         const at::Tensor& grad, const at::Tensor& scale) {
  if constexpr (kHasCuda) {
    if (HasCudaKernels(in.input)) return RunCuda(in, row_sums, terms, grad, scale, nullptr);
  }
  if (!HasCpuLoops(in.input)) return RunAten(in, row_sums, terms, grad, scale);
  DispatchCpuDtype(in.input.scalar_type(), [&](auto t) {
    DispatchKind(in.kind, in.parameter,
                 [&](auto term) { RunRows<decltype(t)>(in, term, row_sums, terms, grad, scale); });
  });
}

void Multiply(const Inputs& in, const at::Tensor& grad, const at::Tensor& scale,
              const at::Tensor& upstream) {
  const at::Tensor row_sums = at::empty({in.input.size(0)}, scale.options());
  if constexpr (kHasCuda) {
    if (HasCudaKernels(in.input)) {
      return RunCuda(in, row_sums, at::Tensor(), grad, scale, Data<double>(upstream));
    }
  }
  if (upstream.is_cpu() && *Data<double>(upstream) == 1) return;
  Run(in, row_sums, at::Tensor(), grad, scale * upstream);
}

}  // namespace liger::kernels::divergence
