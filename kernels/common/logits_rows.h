#ifndef LIGER_KERNELS_COMMON_LOGITS_ROWS_H_
#define LIGER_KERNELS_COMMON_LOGITS_ROWS_H_

#include <cstdint>
#include <limits>

#include "kernels/common/vector.h"

namespace liger::kernels {

// What the exponentials of a row are relative to: its maximum, but for a row of -inf alone, whose
// logsumexp is -inf and not NaN.
LIGER_INLINE float BaseOf(float max) {
  return max == -std::numeric_limits<float>::infinity() ? 0.0f : max;
}

// What one row of logits z[0..V) and its softmax p amount to.
struct LogitsRow {
  // The logsumexp's two parts: what the exponentials are relative to, and their sum's logarithm,
  // which the whole no longer holds where the logits are huge.
  float base;
  double log_total;
  double entropy;     // -sum p log p
  double log_sum_sq;  // log sum p^2
  double mean_logit;
  float max_logit;

  double logsumexp() const { return double{base} + log_total; }
};

// A logsumexp as gradients subtract it from a logit, one float after the other.
struct SplitLogsumexp {
  float head, tail;
};

// From its float64; of a row so far out that float64 holds too little of the logarithm, from
// reduce(), which has both parts again.
template <typename F>
LIGER_INLINE SplitLogsumexp Split(double logsumexp, F reduce) {
  constexpr double kFarOut = 1 << 30;
  if (logsumexp > kFarOut || logsumexp < -kFarOut) {
    const auto row = reduce();
    return {row.base, static_cast<float>(row.log_total)};
  }
  const float head = static_cast<float>(logsumexp);
  return {head, static_cast<float>(logsumexp - double{head})};
}

// The logsumexp's parts and max_logit only. Sums run in float32 over blocks of 1024 and in float64
// over blocks, so the error does not grow with V.
LogitsRow ReduceLogits(const float* z, int64_t V);
LogitsRow ReduceLogits(const Bf16* z, int64_t V);

// All fields.
LogitsRow ReduceLogitsWithStats(const float* z, int64_t V);
LogitsRow ReduceLogitsWithStats(const Bf16* z, int64_t V);

// dz[v] = factor * (softmax(z)[v] - [v == target]). dz may be z.
void CrossEntropyGradRow(const float* z, double logsumexp, int64_t target, float factor, int64_t V,
                         float* dz);
void CrossEntropyGradRow(const Bf16* z, double logsumexp, int64_t target, float factor, int64_t V,
                         float* dz);
void CrossEntropyGradRow(const Bf16* z, double logsumexp, int64_t target, float factor, int64_t V,
                         Bf16* dz);

// z[v] += bias[v], in place.
void AddBiasRow(float* z, const float* bias, int64_t V);
void AddBiasRow(Bf16* z, const Bf16* bias, int64_t V);

// sum[v] += z[v].
void AddRow(const float* z, int64_t V, float* sum);

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_COMMON_LOGITS_ROWS_H_
