#include <ATen/ATen.h>

#include "kernels/common/record.h"
#include "kernels/swiglu/swiglu.h"

namespace liger::kernels::baseline {

at::Tensor Swiglu(const at::Tensor& gate, const at::Tensor& up) {
  RecordPath(Op::kSwiglu, Path::kBaseline);
  return at::silu(gate) * up;
}

}  // namespace liger::kernels::baseline
