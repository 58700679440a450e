#include <ATen/ATen.h>

#include "kernels/common/record.h"
#include "kernels/group_norm/group_norm.h"

namespace liger::kernels::baseline {

at::Tensor GroupNorm(const at::Tensor& x, int64_t num_groups, const at::Tensor& weight,
                     const std::optional<at::Tensor>& bias, double eps) {
  RecordPath(Op::kGroupNorm, Path::kBaseline);
  return at::group_norm(x, num_groups, weight, bias, eps);
}

}  // namespace liger::kernels::baseline
