#ifndef LIGER_KERNELS_LINEAR_PACKING_H_
#define LIGER_KERNELS_LINEAR_PACKING_H_

#include <ATen/core/Tensor.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#include "kernels/linear/operand.h"

// What the packed products share: split_gemm.cpp and panel_gemm.cpp.
namespace liger::kernels::gemm {

constexpr int64_t Ceil(int64_t a, int64_t b) { return (a + b - 1) / b; }
// The least number of equal parts that are not above `most`: their size.
constexpr int64_t PartSize(int64_t whole, int64_t most) {
  return Ceil(whole, std::max<int64_t>(1, Ceil(whole, most)));
}

// Memory that a thread keeps from one product to the next, in huge pages where there are any.
template <typename T>
class Scratch {
 public:
  T* Reserve(int64_t count) {
    const int64_t bytes = count * int64_t{sizeof(T)};
    if (bytes > bytes_) {
      memory_.reset();
      bytes_ = 0;
      const int64_t rounded = Ceil(bytes, kHugePage) * kHugePage;
      memory_.reset(static_cast<T*>(std::aligned_alloc(kHugePage, static_cast<size_t>(rounded))));
      if (memory_ == nullptr) throw std::bad_alloc();
      madvise(memory_.get(), static_cast<size_t>(rounded), MADV_HUGEPAGE);
      bytes_ = rounded;
    }
    return memory_.get();
  }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  static constexpr int64_t kHugePage = int64_t{2} << 20;
  std::unique_ptr<T, Free> memory_;
  int64_t bytes_ = 0;
};

// `x`, or a copy of it that has one of the two layouts; `holder` keeps it.
inline Operand AsOperand(const at::Tensor& x, at::Tensor& holder) {
  holder = x.stride(1) == 1 || x.stride(0) == 1 ? x : x.contiguous();
  const bool k_contiguous = holder.stride(1) == 1;
  return {holder.const_data_ptr<float>(), holder.size(0), holder.size(1),
          holder.stride(k_contiguous ? 0 : 1), k_contiguous};
}

}  // namespace liger::kernels::gemm

#endif  // LIGER_KERNELS_LINEAR_PACKING_H_
