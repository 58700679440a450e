#include <ATen/ATen.h>

#include "kernels/common/record.h"
#include "kernels/dyt/dyt.h"

namespace liger::kernels::baseline {

at::Tensor Dyt(const at::Tensor& x, const at::Tensor& alpha, const at::Tensor& gamma,
               const std::optional<at::Tensor>& beta) {
  RecordPath(Op::kDyt, Path::kBaseline);
  const at::Tensor y = at::tanh(alpha * x) * gamma;
  return beta ? y + *beta : y;
}

}  // namespace liger::kernels::baseline
