#ifndef LIGER_KERNELS_COMMON_OPTIONAL_OUTPUT_H_
#define LIGER_KERNELS_COMMON_OPTIONAL_OUTPUT_H_

#include "kernels/common/cpu.h"

namespace liger::kernels {

// Where to write an output that may not be wanted; nullptr when it is undefined.
template <typename T>
T* MutableOrNull(const at::Tensor& t) {
  return t.defined() ? MutableData<T>(t) : nullptr;
}

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_COMMON_OPTIONAL_OUTPUT_H_
