#ifndef LIGER_KERNELS_COMMON_COLUMN_SUMS_H_
#define LIGER_KERNELS_COMMON_COLUMN_SUMS_H_

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>

namespace liger::kernels {

// Sums over rows of H columns, as a weight's gradient is, by the threads of one at::parallel_for: a
// thread adds up a few rows at a time in float32, and those sums in double, so that the error does
// not grow with the number of rows. Which rows a thread takes depends on the number of threads
// alone: equal runs give equal bits.
class ColumnSums {
 public:
  // Not needed: nothing is held, and Partial() is null.
  ColumnSums(bool needed, int64_t H);

  // What the calling thread adds its rows to, float32 [H].
  float* Partial() const;
  // Calling thread: its partial sums go to the total and are 0 again.
  void Flush() const;

  // [H]; an empty [0] tensor when not needed.
  at::Tensor Total(at::ScalarType dtype) const;

 private:
  bool needed_;
  at::Tensor partial_, total_;  // [threads, H]
};

// Calls f(row) for each in [begin, end), and Flush() of the sums every few rows.
template <typename F, typename... Sums>
void ForSummedRows(int64_t begin, int64_t end, const F& f, const Sums&... sums) {
  constexpr int64_t kRows = 32;
  for (int64_t first = begin; first < end; first += kRows) {
    for (int64_t r = first; r < std::min(first + kRows, end); ++r) f(r);
    (sums.Flush(), ...);
  }
}

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_COMMON_COLUMN_SUMS_H_
