#include "kernels/common/logits_options_rows.h"

#include <cmath>
#include <limits>

namespace liger::kernels {
namespace {

constexpr int64_t kBlock = 1024;

template <bool kCap>
LIGER_INLINE float Capped(float z, float softcap) {
  return kCap ? softcap * Tanh(z / softcap) : z;
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
  const float cap = options.softcap;
  const float* w = options.weight;
  const int64_t argmax = ArgMax(z, V);
  const float max = Capped<kCap>(ToFloat(z[argmax]), cap);
  double total = 0, total_ez = 0, total_wz = 0;
  for (int64_t begin = 0; begin < V; begin += kBlock) {
    const int64_t end = begin + kBlock < V ? begin + kBlock : V;
    float sum = 0, sum_ez = 0, sum_wz = 0;
#pragma omp simd reduction(+ : sum, sum_ez, sum_wz)
    for (int64_t v = begin; v < end; ++v) {
      const float x = Capped<kCap>(ToFloat(z[v]), cap);
      const float shifted = x - max;
      const float e = Exp(shifted);
      sum += e;
      // 0, not 0 * -inf, for a masked logit.
      sum_ez += e > 0.0f ? e * shifted : e;
      sum_wz += kWeight ? w[v] * x : x;
    }
    total += sum;
    total_ez += sum_ez;
    total_wz += sum_wz;
  }
  const double log_total = std::log(total);
  return {.logsumexp = max + log_total,
          .weighted_sum = total_wz,
          .entropy = log_total - total_ez / total,
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
LIGER_INLINE float GradAt(float z, float cap, float head, float tail, float softmax, float rest) {
  const float t = kCap ? Tanh(z / cap) : 0.0f;
  const float x = kCap ? cap * t : z;
  const float g = softmax * Exp(x - head - tail) - rest;
  return kCap ? g * (1.0f - t) * (1.0f + t) : g;
}

template <bool kCap, bool kWeight, typename T>
LIGER_INLINE void Grad(const T* z, const RowOptions& options, double logsumexp, int64_t target,
                       const RowCoefficients& k, int64_t V, T* dz) {
  const float head = static_cast<float>(logsumexp);
  const float tail = static_cast<float>(logsumexp - head);
  const float cap = options.softcap;
  const float* w = options.weight;
  const float smooth = k.smooth * (kWeight ? w[target] : 1.0f);
  const float at_target =
      GradAt<kCap>(ToFloat(z[target]), cap, head, tail, k.softmax, k.onehot + smooth);
#pragma omp simd
  for (int64_t v = 0; v < V; ++v) {
    const float rest = kWeight ? k.smooth * w[v] : k.smooth;
    dz[v] = FromFloat<T>(GradAt<kCap>(ToFloat(z[v]), cap, head, tail, k.softmax, rest));
  }
  dz[target] = FromFloat<T>(at_target);
}

template <typename T>
LIGER_INLINE void DispatchGrad(const T* z, const RowOptions& options, double logsumexp,
                               int64_t target, const RowCoefficients& k, int64_t V, T* dz) {
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

float CappedLogit(float z, float softcap) {
  return softcap == 0 ? Capped<false>(z, softcap) : Capped<true>(z, softcap);
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

}  // namespace liger::kernels
