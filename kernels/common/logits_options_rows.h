#ifndef LIGER_KERNELS_COMMON_LOGITS_OPTIONS_ROWS_H_
#define LIGER_KERNELS_COMMON_LOGITS_OPTIONS_ROWS_H_

#include <cstdint>

#include "kernels/common/vector.h"

namespace liger::kernels {

// One row of logits z[0..V) whose softmax is of z' = scale softcap tanh(z / softcap), or of
// scale z where softcap is 0. `weight` [V] may be null: all 1.
struct RowOptions {
  float softcap;
  float scale;
  const float* weight;
};

struct RowSums {
  // The logsumexp's two parts, as LogitsRow has them.
  float base;
  double log_total;
  double weighted_sum;  // sum weight z'
  double entropy;
  double log_sum_sq;  // log sum p^2
  double mean_logit;  // of z'
  int64_t argmax;     // the lowest v of the highest z

  double logsumexp() const { return double{base} + log_total; }
};

// Sums run in float32 over blocks of 1024 and in float64 over blocks.
RowSums SumRow(const float* z, const RowOptions& options, int64_t V);
RowSums SumRow(const Bf16* z, const RowOptions& options, int64_t V);

// The z' that SumRow saw.
float MappedLogit(float z, const RowOptions& options);

struct RowCoefficients {
  float softmax, onehot, smooth;
};

// dz[v] = (softmax p[v] - onehot [v == target] - smooth weight[v]) dz'/dz. dz may be z.
void MixedGradRow(const float* z, const RowOptions& options, double logsumexp, int64_t target,
                  const RowCoefficients& coefficients, int64_t V, float* dz);
void MixedGradRow(const Bf16* z, const RowOptions& options, double logsumexp, int64_t target,
                  const RowCoefficients& coefficients, int64_t V, Bf16* dz);
void MixedGradRow(const Bf16* z, const RowOptions& options, double logsumexp, int64_t target,
                  const RowCoefficients& coefficients, int64_t V, float* dz);

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_COMMON_LOGITS_OPTIONS_ROWS_H_
