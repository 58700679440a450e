#include <ATen/ATen.h>

#include "kernels/common/record.h"
#include "kernels/linear/linear.h"

namespace liger::kernels::baseline {

at::Tensor Linear(const at::Tensor& x, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias) {
  RecordPath(Op::kLinear, Path::kBaseline);
  return at::linear(x, weight, bias);
}

}  // namespace liger::kernels::baseline
