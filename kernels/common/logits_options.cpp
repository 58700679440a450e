#include "kernels/common/logits_options.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "kernels/common/cpu.h"
#include "kernels/common/cuda.h"
#include "kernels/common/logits_aten.h"
#include "kernels/common/logits_options_launch.h"
#include "kernels/common/logits_options_rows.h"
#include "kernels/common/optional_output.h"

namespace liger::kernels {
namespace {

LogitsSums EmptySums(const at::Tensor& logits, const LogitsOptions& options) {
  const int64_t C = logits.size(0);
  const auto wide = logits.options().dtype(at::kDouble);
  LogitsSums out{.logsumexp = at::empty({C}, wide),
                 .logp = at::empty({C}, wide),
                 .weighted_sum = at::zeros({C}, wide)};
  if (options.token_stats) {
    const auto plain = wide.dtype(ComputeDtype(logits));
    out.argmax = at::empty({C}, wide.dtype(at::kLong));
    out.entropy = at::empty({C}, plain);
    out.log_sum_sq = at::empty({C}, plain);
    out.mean_logit = at::empty({C}, plain);
    out.is_top1 = at::empty({C}, plain);
  }
  return out;
}

const float* WeightOf(const LogitsOptions& options) {
  return options.class_weight_V.defined() ? Data<float>(options.class_weight_V) : nullptr;
}

RowOptions RowOptionsOf(const LogitsOptions& options) {
  return {.softcap = static_cast<float>(options.softcap),
          .scale = static_cast<float>(options.scale),
          .weight = WeightOf(options)};
}

template <typename T>
void SumRows(const at::Tensor& logits, const at::Tensor& target, const LogitsOptions& options,
             LogitsSums& out) {
  const int64_t C = logits.size(0), V = logits.size(1), stride = logits.stride(0);
  const RowOptions row_options = RowOptionsOf(options);
  const T* z = Data<T>(logits);
  const int64_t* y = Data<int64_t>(target);
  double *lse = MutableData<double>(out.logsumexp), *logp = MutableData<double>(out.logp);
  double* weighted_sum = MutableData<double>(out.weighted_sum);
  int64_t* argmax = MutableOrNull<int64_t>(out.argmax);
  float *entropy = MutableOrNull<float>(out.entropy),
        *log_sum_sq = MutableOrNull<float>(out.log_sum_sq);
  float *mean_logit = MutableOrNull<float>(out.mean_logit),
        *is_top1 = MutableOrNull<float>(out.is_top1);
  at::parallel_for(0, C, RowGrain(V), [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      const T* row = z + c * stride;
      const bool ignored = y[c] == options.ignore_index;
      const RowSums r = ignored ? RowSums{} : SumRow(row, row_options, V);
      const float at_target = ignored ? 0 : ToFloat(row[y[c]]);
      lse[c] = r.logsumexp();
      logp[c] = ignored ? 0
                        : (double{MappedLogit(at_target, row_options)} - double{r.base}) -
                              r.log_total;
      if (options.weighted_sum) weighted_sum[c] = r.weighted_sum;
      if (!options.token_stats) continue;
      argmax[c] = r.argmax;
      entropy[c] = static_cast<float>(r.entropy);
      log_sum_sq[c] = static_cast<float>(r.log_sum_sq);
      mean_logit[c] = static_cast<float>(r.mean_logit);
      is_top1[c] = !ignored && at_target >= ToFloat(row[r.argmax]) ? 1.0f : 0.0f;
    }
  });
}

at::Tensor MappedAten(const at::Tensor& logits, const LogitsOptions& options) {
  const at::Tensor z = logits.to(ComputeDtype(logits));
  const double cap = options.softcap, scale = options.scale;
  if (cap == 0) return scale == 1 ? z : z * scale;
  return (z / cap).tanh_().mul_(cap * scale);
}

LogitsSums SumAten(const at::Tensor& logits, const at::Tensor& target,
                   const LogitsOptions& options) {
  const at::Tensor z = MappedAten(logits, options);
  const at::Tensor ignored = target == options.ignore_index;
  const auto masked = [&](const at::Tensor& t) { return t.masked_fill(ignored, 0); };
  const aten::RowLogSumExp lse = aten::LogSumExp(z);
  const at::Tensor at_target = aten::AtTarget(z, target).to(at::kDouble);
  LogitsSums out{.logsumexp = masked(lse.base + lse.log_total),
                 .logp = masked(at_target - lse.base - lse.log_total)};
  const at::Tensor& w = options.class_weight_V;
  out.weighted_sum = options.weighted_sum
                         ? masked((w.defined() ? z * w : z).sum(1, false, at::kDouble))
                         : at::zeros_like(lse.base);
  if (options.token_stats) {
    const at::Tensor logp = at::log_softmax(z, 1);
    out.entropy = masked(aten::Entropy(logp));
    out.log_sum_sq = masked((2 * logp).exp_().sum(1).log_());
    out.mean_logit = masked(z.mean(1));
    out.argmax = masked(logits.argmax(1));
    const at::Tensor raw_at_target = aten::AtTarget(logits, target);
    out.is_top1 = masked((raw_at_target >= logits.amax(1)).to(z.scalar_type()));
  }
  return out;
}

template <typename T, typename D>
void GradRows(const at::Tensor& logits, const at::Tensor& logsumexp, const at::Tensor& target,
              const LogitsCoefficients& coefficients, const LogitsOptions& options,
              const at::Tensor& out) {
  const int64_t C = logits.size(0), V = logits.size(1);
  const int64_t z_stride = logits.stride(0), out_stride = out.stride(0);
  const RowOptions row_options = RowOptionsOf(options);
  const T* z = Data<T>(logits);
  const double* lse = Data<double>(logsumexp);
  const int64_t* y = Data<int64_t>(target);
  const float *softmax = Data<float>(coefficients.softmax),
              *onehot = Data<float>(coefficients.onehot),
              *smooth = Data<float>(coefficients.smooth);
  D* dz = MutableData<D>(out);
  at::parallel_for(0, C, RowGrain(V), [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      D* row = dz + c * out_stride;
      if (y[c] == options.ignore_index) {
        std::fill_n(row, V, FromFloat<D>(0.0f));
      } else {
        MixedGradRow(z + c * z_stride, row_options, lse[c], y[c],
                     {softmax[c], onehot[c], smooth[c]}, V, row);
      }
    }
  });
}

void GradAten(const at::Tensor& logits, const at::Tensor& target, const LogitsCoefficients& k,
              const LogitsOptions& options, const at::Tensor& out) {
  const at::Tensor z = MappedAten(logits, options);
  const at::Tensor ignored = target == options.ignore_index;
  at::Tensor dz = at::softmax(z, 1);
  dz.mul_(k.softmax.unsqueeze(1));
  aten::SubtractAtTarget(dz, target, k.onehot);
  const at::Tensor smooth = k.smooth.unsqueeze(1);
  dz.sub_(options.class_weight_V.defined() ? smooth * options.class_weight_V : smooth);
  if (options.softcap != 0) dz.mul_(1 - (z / (options.softcap * options.scale)).square());
  if (options.scale != 1) dz.mul_(options.scale);
  // 0 * inf or NaN of an ignored row stays out of the result.
  dz.masked_fill_(ignored.unsqueeze(1), 0);
  at::Tensor destination = out;
  destination.copy_(dz);
}

cuda::LogitsShape ShapeOf(const at::Tensor& logits, const LogitsOptions& options) {
  return {.dtype = cuda::DtypeOf(logits),
          .C = logits.size(0),
          .V = logits.size(1),
          .stride = logits.stride(0),
          .ignore_index = options.ignore_index};
}

cuda::LogitsMap MapOf(const LogitsOptions& options) {
  return {.softcap = static_cast<float>(options.softcap),
          .scale = static_cast<float>(options.scale),
          .class_weight = WeightOf(options)};
}

LogitsSums SumCuda(const at::Tensor& logits, const at::Tensor& target,
                   const LogitsOptions& options) {
  const cuda::Scope scope(logits);
  LogitsSums out = EmptySums(logits, options);
  const cuda::LogitsSumsOut results{
      .logsumexp = MutableData<double>(out.logsumexp),
      .logp = MutableData<double>(out.logp),
      .weighted_sum = options.weighted_sum ? MutableData<double>(out.weighted_sum) : nullptr,
      .argmax = MutableOrNull<int64_t>(out.argmax),
      .entropy = MutableOrNull<float>(out.entropy),
      .log_sum_sq = MutableOrNull<float>(out.log_sum_sq),
      .mean_logit = MutableOrNull<float>(out.mean_logit),
      .is_top1 = MutableOrNull<float>(out.is_top1)};
  cuda::CheckLaunch("cross_entropy",
                    cuda::SumLogits(scope.queue(), ShapeOf(logits, options), MapOf(options),
                                    logits.const_data_ptr(), Data<int64_t>(target), results));
  return out;
}

void GradCuda(const at::Tensor& logits, const at::Tensor& logsumexp, const at::Tensor& target,
              const LogitsCoefficients& k, const LogitsOptions& options, const at::Tensor& out) {
  const cuda::Scope scope(logits);
  cuda::CheckLaunch(
      "cross_entropy",
      cuda::MixedLogitsGrad(scope.queue(), ShapeOf(logits, options), MapOf(options),
                            logits.const_data_ptr(), Data<double>(logsumexp), Data<int64_t>(target),
                            {Data<float>(k.softmax), Data<float>(k.onehot), Data<float>(k.smooth)},
                            out.stride(0), out.mutable_data_ptr()));
}

}  // namespace

LogitsSums SumLogits(const at::Tensor& logits, const at::Tensor& target,
                     const LogitsOptions& options) {
  if constexpr (kHasCuda) {
    if (HasCudaKernels(logits)) return SumCuda(logits, target, options);
  }
  if (!HasCpuLoops(logits)) return SumAten(logits, target, options);
  LogitsSums out = EmptySums(logits, options);
  DispatchCpuDtype(logits.scalar_type(),
                   [&](auto t) { SumRows<decltype(t)>(logits, target, options, out); });
  return out;
}

void MixedLogitsGrad(const at::Tensor& logits, const at::Tensor& logsumexp,
                     const at::Tensor& target, const LogitsCoefficients& coefficients,
                     const LogitsOptions& options, const at::Tensor& out) {
  if constexpr (kHasCuda) {
    if (HasCudaKernels(logits)) {
      return GradCuda(logits, logsumexp, target, coefficients, options, out);
    }
  }
  if (!HasCpuLoops(logits)) {
    return GradAten(logits, target, coefficients, options, out);
  }
  if (logits.scalar_type() == at::kFloat) {
    GradRows<float, float>(logits, logsumexp, target, coefficients, options, out);
  } else if (out.scalar_type() == at::kFloat) {
    GradRows<Bf16, float>(logits, logsumexp, target, coefficients, options, out);
  } else {
    GradRows<Bf16, Bf16>(logits, logsumexp, target, coefficients, options, out);
  }
}

}  // namespace liger::kernels
