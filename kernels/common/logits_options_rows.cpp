#include "kernels/common/logits_options_rows.h"

#include <cmath>
#include <limits>

#include "kernels/common/logits_rows.h"

namespace liger::kernels {
namespace {

constexpr int64_t kBlock = 1024;

template <bool kCap>
LIGER_INLINE float Mapped(float z, float softcap, float scale) {
  return kCap ? scale * softcap * Tanh(z / softcap) : scale * z;
}

// The lowest index of the highest logit; V > 0. NaN is never higher.
template <typename T>
LIGER_INLINE int64_t ArgMax(const T* z, int64_t V) {
  float max = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : max)
  for (int64_t v = 0; v < V; ++v) {
    const float x = ToFloat(z[v]);
    max = x > max ? x : max;
  }
  for (int64_t v = 0; v < V; ++v) {
    if (ToFloat(z[v]) == max) return v;
  }
  return 0;
}

template <bool kCap, bool kWeight, typename T>
LIGER_INLINE RowSums Sum(const T* z, const RowOptions& options, int64_t V) {
  const float cap = options.softcap, scale = options.scale;
  const float* w = options.weight;
  const int64_t argmax = ArgMax(z, V);
  const float base = BaseOf(Mapped<kCap>(ToFloat(z[argmax]), cap, scale));
  double total = 0, total_ez = 0, total_ee = 0, total_z = 0, total_wz = 0;
  for (int64_t begin = 0; begin < V; begin += kBlock) {
    const int64_t end = begin + kBlock < V ? begin + kBlock : V;
    float sum = 0, sum_ez = 0, sum_ee = 0, sum_z = 0, sum_wz = 0;
#pragma omp simd reduction(+ : sum, sum_ez, sum_ee, sum_z, sum_wz)
    for (int64_t v = begin; v < end; ++v) {
      const float x = Mapped<kCap>(ToFloat(z[v]), cap, scale);
      const float shifted = x - base;
      const float e = Exp(shifted);
      sum += e;
      // 0, not 0 * -inf, for a masked logit.
      sum_ez += e > 0.0f ? e * shifted : e;
      sum_ee += e * e;
      sum_z += x;
      if (kWeight) sum_wz += w[v] * x;
    }
    total += sum;
    total_ez += sum_ez;
    total_ee += sum_ee;
    total_z += sum_z;
    total_wz += sum_wz;
  }
  const double log_total = std::log(total);
  return {.base = base,
          .log_total = log_total,
          .weighted_sum = kWeight ? total_wz : total_z,
          .entropy = log_total - total_ez / total,
          .log_sum_sq = std::log(total_ee) - 2 * log_total,
          .mean_logit = total_z / static_cast<double>(V),
          .argmax = argmax};
}

template <typename T>
LIGER_INLINE RowSums DispatchSum(const T* z, const RowOptions& options, int64_t V) {
  if (options.softcap != 0) {
    return options.weight ? Sum<true, true>(z, options, V) : Sum<true, false>(z, options, V);
  }
  return options.weight ? Sum<false, true>(z, options, V) : Sum<false, false>(z, options, V);
}

// logsumexp is subtracted as float32 head and tail, as CrossEntropyGradRow does.
template <bool kCap>
LIGER_INLINE float GradAt(float z, const RowOptions& options, float head, float tail, float softmax,
                          float rest) {
  const float cap = options.softcap, scale = options.scale;
  const float t = kCap ? Tanh(z / cap) : 0.0f;
  const float x = kCap ? scale * cap * t : scale * z;
  const float g = scale * (softmax * Exp(x - head - tail) - rest);
  return kCap ? g * (1.0f - t) * (1.0f + t) : g;
}

template <bool kCap, bool kWeight, typename T, typename D>
LIGER_INLINE void Grad(const T* z, const RowOptions& options, double logsumexp, int64_t target,
                       const RowCoefficients& k, int64_t V, D* dz) {
  const SplitLogsumexp lse =
      Split(logsumexp, [&] { return Sum<kCap, /*kWeight=*/false>(z, options, V); });
  const float head = lse.head, tail = lse.tail;
  const float* w = options.weight;
  const float smooth = k.smooth * (kWeight ? w[target] : 1.0f);
  const float at_target =
      GradAt<kCap>(ToFloat(z[target]), options, head, tail, k.softmax, k.onehot + smooth);
#pragma omp simd
  for (int64_t v = 0; v < V; ++v) {
    const float rest = kWeight ? k.smooth * w[v] : k.smooth;
    dz[v] = FromFloat<D>(GradAt<kCap>(ToFloat(z[v]), options, head, tail, k.softmax, rest));
  }
  dz[target] = FromFloat<D>(at_target);
}

template <typename T, typename D>
LIGER_INLINE void DispatchGrad(const T* z, const RowOptions& options, double logsumexp,
                               int64_t target, const RowCoefficients& k, int64_t V, D* dz) {
  if (options.softcap != 0) {
    return options.weight ? Grad<true, true>(z, options, logsumexp, target, k, V, dz)
                          : Grad<true, false>(z, options, logsumexp, target, k, V, dz);
  }
  return options.weight ? Grad<false, true>(z, options, logsumexp, target, k, V, dz)
                        : Grad<false, false>(z, options, logsumexp, target, k, V, dz);
}

}  // namespace

LIGER_VECTOR_CLONES RowSums SumRow(const float* z, const RowOptions& options, int64_t V) {
  return DispatchSum(z, options, V);
}
LIGER_VECTOR_CLONES RowSums SumRow(const Bf16* z, const RowOptions& options, int64_t V) {
  return DispatchSum(z, options, V);
}

float MappedLogit(float z, const RowOptions& options) {
  const float cap = options.softcap, scale = options.scale;
  return cap == 0 ? Mapped<false>(z, cap, scale) : Mapped<true>(z, cap, scale);
}

LIGER_VECTOR_CLONES void MixedGradRow(const float* z, const RowOptions& options, double logsumexp,
                                      int64_t target, const RowCoefficients& k, int64_t V,
                                      float* dz) {
  DispatchGrad(z, options, logsumexp, target, k, V, dz);
}
LIGER_VECTOR_CLONES void MixedGradRow(const Bf16* z, const RowOptions& options, double logsumexp,
                                      int64_t target, const RowCoefficients& k, int64_t V,
                                      Bf16* dz) {
  DispatchGrad(z, options, logsumexp, target, k, V, dz);
}
LIGER_VECTOR_CLONES void MixedGradRow(const Bf16* z, const RowOptions& options, double logsumexp,
                                      int64_t target, const RowCoefficients& k, int64_t V,
                                      float* dz) {
  DispatchGrad(z, options, logsumexp, target, k, V, dz);
}

}  // namespace liger::kernels
