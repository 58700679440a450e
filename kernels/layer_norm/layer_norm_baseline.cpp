#include <ATen/ATen.h>

#include "kernels/common/record.h"
#include "kernels/layer_norm/layer_norm.h"

namespace liger::kernels::baseline {

at::Tensor LayerNorm(const at::Tensor& x, const at::Tensor& weight,
                     const std::optional<at::Tensor>& bias, double eps) {
  RecordPath(Op::kLayerNorm, Path::kBaseline);
  return at::layer_norm(x, weight.sizes(), weight, bias, eps);
}

}  // namespace liger::kernels::baseline
