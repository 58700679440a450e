#include "worker/trainer/optim/sum_of_squares.h"

#include <bit>

// The loop is cloned for AVX-512, AVX2 and the baseline; the loader picks one.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define LIGER_CPU_CLONES \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define LIGER_CPU_CLONES
#endif

namespace liger::trainer {
namespace {

LIGER_CPU_CLONES double SumOfSquaresFp32(const float* values, int64_t count) {
  // Independent sums, so that additions do not wait for each other.
  constexpr int kLanes = 32;
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const double value = values[i + lane];
      lanes[lane] += value * value;
    }
  }
  double sum = 0;
  for (; i < count; ++i) sum += double(values[i]) * values[i];
  for (double lane : lanes) sum += lane;
  return sum;
}

double SumOfSquaresBf16(const uint16_t* values, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double value = std::bit_cast<float>(uint32_t{values[i]} << 16);
    sum += value * value;
  }
  return sum;
}

}  // namespace

double SumOfSquares(const at::Tensor& values, int64_t begin, int64_t end) {
  if (values.scalar_type() == at::kFloat) {
    return SumOfSquaresFp32(values.const_data_ptr<float>() + begin, end - begin);
  }
  TORCH_CHECK(values.scalar_type() == at::kBFloat16, "gradient norm: dtype ", values.scalar_type(),
              " is not implemented");
  return SumOfSquaresBf16(static_cast<const uint16_t*>(values.const_data_ptr()) + begin,
                          end - begin);
}

}  // namespace liger::trainer
