#include "kernels/common/column_sums.h"

#include <ATen/ATen.h>

#include "kernels/common/cpu.h"

namespace liger::kernels {
namespace {

LIGER_VECTOR_CLONES void MoveToTotal(float* partial, double* total, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    total[i] += static_cast<double>(partial[i]);
    partial[i] = 0;
  }
}

at::Tensor Zeros(int64_t H, at::ScalarType dtype) {
  return at::zeros({at::get_num_threads(), H}, at::TensorOptions(dtype));
}

}  // namespace

ColumnSums::ColumnSums(bool needed, int64_t H) : needed_(needed) {
  if (!needed) return;
  partial_ = Zeros(H, at::kFloat);
  total_ = Zeros(H, at::kDouble);
}

float* ColumnSums::Partial() const {
  return needed_ ? MutableData<float>(partial_) + at::get_thread_num() * partial_.size(1) : nullptr;
}

void ColumnSums::Flush() const {
  if (!needed_) return;
  const int64_t H = partial_.size(1);
  MoveToTotal(Partial(), MutableData<double>(total_) + at::get_thread_num() * H, H);
}

at::Tensor ColumnSums::Total(at::ScalarType dtype) const {
  return needed_ ? total_.sum(0).to(dtype) : at::empty({0}, at::TensorOptions(dtype));
}

}  // namespace liger::kernels
