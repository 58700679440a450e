#include "kernels/linear/gemm_onednn.h"

#include <ATen/ATen.h>
#include <ATen/core/List.h>

#include "kernels/common/autograd.h"

namespace liger::kernels::gemm {
namespace {

constexpr char kOp[] = "mkldnn::_linear_pointwise";

using LinearPointwise = at::Tensor(const at::Tensor& x, const at::Tensor& w,
                                   const std::optional<at::Tensor>& bias, c10::string_view attr,
                                   c10::List<std::optional<at::Scalar>> scalars,
                                   std::optional<c10::string_view> algorithm);

}  // namespace

bool HasOneDnn() {
  return at::globalContext().hasMKLDNN() &&
         c10::Dispatcher::singleton().findSchema({kOp, ""}).has_value();
}

at::Tensor OneDnnXWt(const at::Tensor& x, const at::Tensor& w) {
  static const auto op = FindOp<LinearPointwise>(kOp);
  return op.call(x, w, std::nullopt, "none", c10::List<std::optional<at::Scalar>>(), "");
}

}  // namespace liger::kernels::gemm
