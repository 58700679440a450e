#include "kernels/common/logits.h"

#include <ATen/ATen.h>

#include <optional>
#include <utility>

#include "kernels/common/cpu.h"
#include "kernels/common/cuda.h"
#include "kernels/common/logits_aten.h"
#include "kernels/common/logits_launch.h"
#include "kernels/common/logits_rows.h"

namespace liger::kernels {
namespace {

LogitsStats EmptyStats(const at::Tensor& logits, bool stats) {
  const int64_t C = logits.size(0);
  const auto wide = logits.options().dtype(at::kDouble);
  const auto plain = logits.options().dtype(ComputeDtype(logits));
  LogitsStats out{.logsumexp = at::zeros({C}, wide), .logp = at::zeros({C}, wide)};
  if (stats) {
    out.entropy = at::zeros({C}, plain);
    out.log_sum_sq = at::zeros({C}, plain);
    out.mean_logit = at::zeros({C}, plain);
    out.is_top1 = at::zeros({C}, plain);
  }
  return out;
}

template <typename T>
void ReduceRows(const at::Tensor& logits, const at::Tensor& target, int64_t ignore_index,
                LogitsStats& out) {
  const int64_t C = logits.size(0), V = logits.size(1), stride = logits.stride(0);
  const bool stats = out.entropy.defined();
  const T* z = Data<T>(logits);
  const int64_t* y = Data<int64_t>(target);
  double* lse = MutableData<double>(out.logsumexp);
  double* logp = MutableData<double>(out.logp);
  const auto field = [&](at::Tensor& t) { return stats ? MutableData<float>(t) : nullptr; };
  float *entropy = field(out.entropy), *log_sum_sq = field(out.log_sum_sq);
  float *mean_logit = field(out.mean_logit), *is_top1 = field(out.is_top1);
  at::parallel_for(0, C, RowGrain(V), [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      if (y[c] == ignore_index) continue;
      const T* row = z + c * stride;
      const LogitsRow r = stats ? ReduceLogitsWithStats(row, V) : ReduceLogits(row, V);
      const float at_target = ToFloat(row[y[c]]);
      lse[c] = r.logsumexp();
      logp[c] = (double{at_target} - double{r.base}) - r.log_total;
      if (!stats) continue;
      entropy[c] = static_cast<float>(r.entropy);
      log_sum_sq[c] = static_cast<float>(r.log_sum_sq);
      mean_logit[c] = static_cast<float>(r.mean_logit);
      is_top1[c] = at_target >= r.max_logit ? 1.0f : 0.0f;
    }
  });
}

LogitsStats ReduceAten(const at::Tensor& logits, const at::Tensor& target, int64_t ignore_index,
                       bool stats) {
  const at::Tensor z = logits.to(ComputeDtype(logits));
  const at::Tensor ignored = target == ignore_index;
  const auto masked = [&](const at::Tensor& t) { return t.masked_fill(ignored, 0); };
  const aten::RowLogSumExp lse = aten::LogSumExp(z);
  const at::Tensor at_target = aten::AtTarget(z, target);
  LogitsStats out{.logsumexp = masked(lse.base + lse.log_total),
                  .logp = masked(at_target.to(at::kDouble) - lse.base - lse.log_total)};
  if (stats) {
    const at::Tensor logp = at::log_softmax(z, 1);
    out.entropy = masked(aten::Entropy(logp));
    out.log_sum_sq = masked((2 * logp).exp_().sum(1).log_());
    out.mean_logit = masked(z.mean(1));
    out.is_top1 = masked((at_target >= z.amax(1)).to(z.scalar_type()));
  }
  return out;
}

template <typename T, typename D>
void GradRows(const at::Tensor& logits, const at::Tensor& logsumexp, const at::Tensor& target,
              const at::Tensor& factor, int64_t ignore_index, const at::Tensor& out) {
  const int64_t C = logits.size(0), V = logits.size(1);
  const int64_t z_stride = logits.stride(0), out_stride = out.stride(0);
  const T* z = Data<T>(logits);
  const double* lse = Data<double>(logsumexp);
  const int64_t* y = Data<int64_t>(target);
  const float* f = Data<float>(factor);
  D* dz = MutableData<D>(out);
  at::parallel_for(0, C, RowGrain(V), [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      D* row = dz + c * out_stride;
      if (y[c] == ignore_index) {
        std::fill_n(row, V, FromFloat<D>(0.0f));
      } else {
        CrossEntropyGradRow(z + c * z_stride, lse[c], y[c], f[c], V, row);
      }
    }
  });
}

void GradAten(const at::Tensor& logits, const at::Tensor& target, const at::Tensor& factor,
              int64_t ignore_index, const at::Tensor& out) {
  const at::Tensor ignored = target == ignore_index;
  at::Tensor p = at::softmax(logits.to(ComputeDtype(logits)), 1);
  aten::SubtractAtTarget(p, target, at::ones({target.size(0)}, p.options()));
  p.mul_(factor.masked_fill(ignored, 0).unsqueeze(1));
  // 0 * inf or NaN of an ignored row stays out of the result.
  p.masked_fill_(ignored.unsqueeze(1), 0);
  at::Tensor destination = out;
  destination.copy_(p);
}

cuda::LogitsShape ShapeOf(const at::Tensor& logits, int64_t ignore_index) {
  return {.dtype = cuda::DtypeOf(logits),
          .C = logits.size(0),
          .V = logits.size(1),
          .stride = logits.stride(0),
          .ignore_index = ignore_index};
}

cuda::LogitsResults ResultsOf(LogitsStats& stats) {
  const auto field = [](at::Tensor& t) { return t.defined() ? MutableData<float>(t) : nullptr; };
  return {.logsumexp = MutableData<double>(stats.logsumexp),
          .logp = MutableData<double>(stats.logp),
          .entropy = field(stats.entropy),
          .log_sum_sq = field(stats.log_sum_sq),
          .mean_logit = field(stats.mean_logit),
          .is_top1 = field(stats.is_top1)};
}

LogitsStats ReduceCuda(const at::Tensor& logits, const at::Tensor& target, int64_t ignore_index,
                       bool stats) {
  const cuda::Scope scope(logits);
  LogitsStats out = EmptyStats(logits, stats);
  cuda::CheckLaunch("cross_entropy",
                    cuda::ReduceLogits(scope.queue(), ShapeOf(logits, ignore_index),
                                       logits.const_data_ptr(), Data<int64_t>(target),
                                       ResultsOf(out)));
  return out;
}

// Nothing where a row is too long for one pass, or the GPU too old or too small.
std::optional<LogitsStats> SinglePassCuda(const at::Tensor& logits, const at::Tensor& target,
                                          const at::Tensor& factor, int64_t ignore_index,
                                          bool stats, const at::Tensor& out) {
  const cuda::Scope scope(logits);
  const cuda::LogitsShape shape = ShapeOf(logits, ignore_index);
  if (!cuda::HasSinglePass(shape, stats, logits.const_data_ptr(), out.stride(0),
                           out.const_data_ptr())) {
    return std::nullopt;
  }
  LogitsStats results = EmptyStats(logits, stats);
  cuda::CheckLaunch(
      "cross_entropy",
      cuda::CrossEntropyAndGrad(scope.queue(), shape, logits.const_data_ptr(),
                                Data<int64_t>(target), Data<float>(factor), ResultsOf(results),
                                out.stride(0), out.mutable_data_ptr()));
  return results;
}

void GradCuda(const at::Tensor& logits, const at::Tensor& logsumexp, const at::Tensor& target,
              const at::Tensor& factor, int64_t ignore_index, const at::Tensor& out) {
  const cuda::Scope scope(logits);
  cuda::CheckLaunch(
      "cross_entropy",
      cuda::CrossEntropyGrad(scope.queue(), ShapeOf(logits, ignore_index), logits.const_data_ptr(),
                             Data<double>(logsumexp), Data<int64_t>(target), Data<float>(factor),
                             cuda::DtypeOf(out), out.stride(0), out.mutable_data_ptr()));
}

void GradUnlessOneCuda(const at::Tensor& logits, const at::Tensor& logsumexp,
                       const at::Tensor& target, const at::Tensor& upstream, double scale,
                       int64_t ignore_index, const at::Tensor& out) {
  const cuda::Scope scope(logits);
  cuda::CheckLaunch("cross_entropy",
                    cuda::CrossEntropyGradUnlessOne(
                        scope.queue(), ShapeOf(logits, ignore_index), logits.const_data_ptr(),
                        Data<double>(logsumexp), Data<int64_t>(target), Data<float>(upstream),
                        static_cast<float>(scale), out.stride(0), out.mutable_data_ptr()));
}

}  // namespace

LogitsStats ReduceLogits(const at::Tensor& logits, const at::Tensor& target, int64_t ignore_index,
                         bool stats) {
  if constexpr (kHasCuda) {
    if (HasCudaKernels(logits)) return ReduceCuda(logits, target, ignore_index, stats);
  }
  if (!HasCpuLoops(logits)) return ReduceAten(logits, target, ignore_index, stats);
  LogitsStats out = EmptyStats(logits, stats);
  DispatchCpuDtype(logits.scalar_type(),
                   [&](auto t) { ReduceRows<decltype(t)>(logits, target, ignore_index, out); });
  return out;
}

LogitsStats CrossEntropyAndGrad(const at::Tensor& logits, const at::Tensor& target,
                                const at::Tensor& factor, int64_t ignore_index, bool stats,
                                const at::Tensor& out) {
  if constexpr (kHasCuda) {
    if (HasCudaKernels(logits)) {
      auto results = SinglePassCuda(logits, target, factor, ignore_index, stats, out);
      if (results.has_value()) return *std::move(results);
    }
  }
  LogitsStats results = ReduceLogits(logits, target, ignore_index, stats);
  CrossEntropyGrad(logits, results.logsumexp, target, factor, ignore_index, out);
  return results;
}

void CrossEntropyGrad(const at::Tensor& logits, const at::Tensor& logsumexp,
                      const at::Tensor& target, const at::Tensor& factor, int64_t ignore_index,
                      const at::Tensor& out) {
  if constexpr (kHasCuda) {
    if (HasCudaKernels(logits)) {
      return GradCuda(logits, logsumexp, target, factor, ignore_index, out);
    }
  }
  if (!HasCpuLoops(logits)) {
    GradAten(logits, target, factor, ignore_index, out);
  } else if (logits.scalar_type() == at::kFloat) {
    GradRows<float, float>(logits, logsumexp, target, factor, ignore_index, out);
  } else if (out.scalar_type() == at::kFloat) {
    GradRows<Bf16, float>(logits, logsumexp, target, factor, ignore_index, out);
  } else {
    GradRows<Bf16, Bf16>(logits, logsumexp, target, factor, ignore_index, out);
  }
}

void CrossEntropyGradUnlessOne(const at::Tensor& logits, const at::Tensor& logsumexp,
                               const at::Tensor& target, const at::Tensor& upstream, double scale,
                               int64_t ignore_index, const at::Tensor& out) {
  if constexpr (kHasCuda) {
    if (HasCudaKernels(logits)) {
      return GradUnlessOneCuda(logits, logsumexp, target, upstream, scale, ignore_index, out);
    }
  }
  // No branch: on a GPU without our kernels it would make the host wait.
  const at::Tensor factor = (upstream * scale).expand({logits.size(0)}).contiguous();
  CrossEntropyGrad(logits, logsumexp, target, factor, ignore_index, out);
}

}  // namespace liger::kernels
