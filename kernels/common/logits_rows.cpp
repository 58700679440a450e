#include "kernels/common/logits_rows.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace liger::kernels {
namespace {

constexpr int64_t kBlock = 1024;

template <typename T>
LIGER_INLINE float Max(const T* z, int64_t V) {
  float max = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : max)
  for (int64_t v = 0; v < V; ++v) {
    const float x = ToFloat(z[v]);
    max = x > max ? x : max;
  }
  return max;
}

template <typename T>
LIGER_INLINE LogitsRow Reduce(const T* z, int64_t V) {
  const float max = Max(z, V), base = BaseOf(max);
  double total = 0;
  for (int64_t begin = 0; begin < V; begin += kBlock) {
    const int64_t end = begin + kBlock < V ? begin + kBlock : V;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t v = begin; v < end; ++v) sum += Exp(ToFloat(z[v]) - base);
    total += sum;
  }
  LogitsRow row{};
  row.max_logit = max;
  row.base = base;
  row.log_total = std::log(total);
  return row;
}

// With e = exp(z - base) and S = sum e:  entropy = log S - sum e (z - base) / S,
// log sum p^2 = log sum e^2 - 2 log S.
template <typename T>
LIGER_INLINE LogitsRow ReduceWithStats(const T* z, int64_t V) {
  const float max = Max(z, V), base = BaseOf(max);
  double total = 0, total_ez = 0, total_sq = 0, total_z = 0;
  for (int64_t begin = 0; begin < V; begin += kBlock) {
    const int64_t end = begin + kBlock < V ? begin + kBlock : V;
    float sum = 0, sum_ez = 0, sum_sq = 0, sum_z = 0;
#pragma omp simd reduction(+ : sum, sum_ez, sum_sq, sum_z)
    for (int64_t v = begin; v < end; ++v) {
      const float x = ToFloat(z[v]);
      const float shifted = x - base;
      const float e = Exp(shifted);
      sum += e;
      // 0, not 0 * -inf, for a masked logit.
      sum_ez += e > 0.0f ? e * shifted : e;
      sum_sq += e * e;
      sum_z += x;
    }
    total += sum;
    total_ez += sum_ez;
    total_sq += sum_sq;
    total_z += sum_z;
  }
  const double log_total = std::log(total);
  return {.base = base,
          .log_total = log_total,
          .entropy = log_total - total_ez / total,
          .log_sum_sq = std::log(total_sq) - 2 * log_total,
          .mean_logit = total_z / static_cast<double>(V),
          .max_logit = max};
}

// z - logsumexp would round to the size of logsumexp: subtract its float32 head and tail apart.
template <typename T, typename D>
LIGER_INLINE void GradRow(const T* z, double logsumexp, int64_t target, float factor, int64_t V,
                          D* dz) {
  const SplitLogsumexp lse = Split(logsumexp, [&] { return Reduce(z, V); });
  const float head = lse.head, tail = lse.tail;
  const float at_target = Exp(ToFloat(z[target]) - head - tail) - 1.0f;
#pragma omp simd
  for (int64_t v = 0; v < V; ++v) {
    dz[v] = FromFloat<D>(factor * Exp(ToFloat(z[v]) - head - tail));
  }
  dz[target] = FromFloat<D>(factor * at_target);
}

template <typename T>
LIGER_INLINE void AddBias(T* z, const T* bias, int64_t V) {
#pragma omp simd
  for (int64_t v = 0; v < V; ++v) z[v] = FromFloat<T>(ToFloat(z[v]) + ToFloat(bias[v]));
}

}  // namespace

LIGER_VECTOR_CLONES LogitsRow ReduceLogits(const float* z, int64_t V) { return Reduce(z, V); }
LIGER_VECTOR_CLONES LogitsRow ReduceLogits(const Bf16* z, int64_t V) { return Reduce(z, V); }

LIGER_VECTOR_CLONES LogitsRow ReduceLogitsWithStats(const float* z, int64_t V) {
  return ReduceWithStats(z, V);
}
LIGER_VECTOR_CLONES LogitsRow ReduceLogitsWithStats(const Bf16* z, int64_t V) {
  return ReduceWithStats(z, V);
}

LIGER_VECTOR_CLONES void CrossEntropyGradRow(const float* z, double logsumexp, int64_t target,
                                             float factor, int64_t V, float* dz) {
  GradRow(z, logsumexp, target, factor, V, dz);
}
LIGER_VECTOR_CLONES void CrossEntropyGradRow(const Bf16* z, double logsumexp, int64_t target,
                                             float factor, int64_t V, float* dz) {
  GradRow(z, logsumexp, target, factor, V, dz);
}
LIGER_VECTOR_CLONES void CrossEntropyGradRow(const Bf16* z, double logsumexp, int64_t target,
                                             float factor, int64_t V, Bf16* dz) {
  GradRow(z, logsumexp, target, factor, V, dz);
}

LIGER_VECTOR_CLONES void AddBiasRow(float* z, const float* bias, int64_t V) { AddBias(z, bias, V); }
LIGER_VECTOR_CLONES void AddBiasRow(Bf16* z, const Bf16* bias, int64_t V) { AddBias(z, bias, V); }

LIGER_VECTOR_CLONES void AddRow(const float* z, int64_t V, float* sum) {
#pragma omp simd
  for (int64_t v = 0; v < V; ++v) sum[v] += z[v];
}

}  // namespace liger::kernels
