#include <ATen/ATen.h>

#include "kernels/common/record.h"
#include "kernels/geglu/geglu.h"

namespace liger::kernels::baseline {

at::Tensor Geglu(const at::Tensor& gate, const at::Tensor& up, GeluApproximate approximate) {
  RecordPath(Op::kGeglu, Path::kBaseline);
  return at::gelu(gate, approximate == GeluApproximate::kTanh ? "tanh" : "none") * up;
}

}  // namespace liger::kernels::baseline
