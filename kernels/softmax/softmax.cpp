#include "kernels/softmax/softmax.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "kernels/common/autograd.h"
#include "kernels/common/check.h"
#include "kernels/common/path_of.h"
#include "kernels/softmax/softmax_impl.h"

namespace liger::kernels {
namespace {

constexpr char kOp[] = "softmax";

void CheckForward(const at::Tensor& x) {
  const Arg x_arg{kOp, "x", x};
  CheckFloating(x_arg);
  CheckAtLeastDim(x_arg, 1);
}

void CheckBackward(const at::Tensor& dy, const at::Tensor& y) {
  const Arg y_arg{kOp, "y", y}, dy_arg{kOp, "grad", dy};
  CheckFloating(y_arg);
  CheckAtLeastDim(y_arg, 1);
  CheckShape(dy_arg, y.sym_sizes(), "y's shape");
  CheckSameDtype(dy_arg, y_arg);
  CheckSameDevice(dy_arg, y_arg);
}

at::Tensor Forward(const at::Tensor& x) {
  CheckForward(x);
  RecordPath(Op::kSoftmax, PathOf(x));
  return SoftmaxForward(x);
}

at::Tensor ForwardMeta(const at::Tensor& x) {
  CheckForward(x);
  return at::empty_symint(x.sym_sizes(), x.options());
}

at::Tensor Backward(const at::Tensor& dy, const at::Tensor& y) {
  CheckBackward(dy, y);
  return SoftmaxBackward(dy, y);
}

at::Tensor BackwardMeta(const at::Tensor& dy, const at::Tensor& y) {
  CheckBackward(dy, y);
  return at::empty_symint(y.sym_sizes(), y.options());
}

at::Tensor WithoutAutograd(const at::Tensor& x) {
  static const auto op = FindOp<decltype(Forward)>("liger::softmax_forward");
  return op.call(x);
}

class Function : public torch::autograd::Function<Function> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x) {
    at::AutoDispatchBelowADInplaceOrView guard;
    at::Tensor y = WithoutAutograd(x);
    ctx->save_for_backward({y});
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    CheckFirstDerivative(kOp);
    static const auto op = FindOp<decltype(Backward)>("liger::softmax_backward");
    return {op.call(grads[0], ctx->get_saved_variables()[0])};
  }
};

at::Tensor WithAutograd(const at::Tensor& x) { return Function::apply(x); }

TORCH_LIBRARY_FRAGMENT(liger, m) {
  m.def("softmax(Tensor x) -> Tensor", {at::Tag::pt2_compliant_tag});
  m.def("softmax_forward(Tensor x) -> Tensor");
  m.def("softmax_backward(Tensor grad, Tensor y) -> Tensor");
}
TORCH_LIBRARY_IMPL(liger, CompositeExplicitAutograd, m) {
  m.impl("softmax", WithoutAutograd);
  m.impl("softmax_forward", Forward);
  m.impl("softmax_backward", Backward);
}
TORCH_LIBRARY_IMPL(liger, Autograd, m) { m.impl("softmax", WithAutograd); }
TORCH_LIBRARY_IMPL(liger, Meta, m) {
  m.impl("softmax_forward", ForwardMeta);
  m.impl("softmax_backward", BackwardMeta);
}

}  // namespace

at::Tensor Softmax(const at::Tensor& x) {
  static const auto op = FindOp<decltype(WithoutAutograd)>("liger::softmax");
  return op.call(x);
}

}  // namespace liger::kernels
