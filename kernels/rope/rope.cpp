#include "kernels/rope/rope.h"

#include <torch/library.h>
#include <torch/torch.h>

#include "kernels/common/autograd.h"
#include "kernels/common/check.h"
#include "kernels/common/cpu.h"
#include "kernels/common/path_of.h"
#include "kernels/rope/rope_impl.h"

namespace liger::kernels {
namespace {

constexpr char kOp[] = "rope";

using Pair = std::tuple<at::Tensor, at::Tensor>;

void CheckTable(const Arg& table, const Arg& q) {
  CheckDim(table, 2);
  CheckShape(table, {q.tensor.sym_size(0), table.tensor.sym_size(1)}, "[T, R]");
  CheckSameDtypeOrFloat(table, q);
  CheckSameDevice(table, q);
  const auto R = table.tensor.sym_size(1);
  TORCH_CHECK(R % 2 == 0 && R <= q.tensor.sym_size(2), kOp, ": ", table.name, " has shape ",
              table.tensor.sym_sizes(),
              ", its last dimension must be even and at most D = ", q.tensor.sym_size(2));
}

void Check(const at::Tensor& q, const at::Tensor& k, const at::Tensor& cos, const at::Tensor& sin) {
  const Arg q_arg{kOp, "q", q}, k_arg{kOp, "k", k};
  CheckFloating(q_arg);
  CheckDim(q_arg, 3);
  CheckDim(k_arg, 3);
  CheckShape(k_arg, {q.sym_size(0), k.sym_size(1), q.sym_size(2)}, "[T, K, D]");
  CheckSameDtype(k_arg, q_arg);
  CheckSameDevice(k_arg, q_arg);
  CheckTable({kOp, "cos", cos}, q_arg);
  CheckTable({kOp, "sin", sin}, q_arg);
  CheckShape({kOp, "sin", sin}, cos.sym_sizes(), "cos's shape");
}

at::Tensor WithUnitStride(const at::Tensor& x) { return x.stride(2) == 1 ? x : x.contiguous(); }

Pair Rotate(const at::Tensor& q, const at::Tensor& k, const at::Tensor& cos, const at::Tensor& sin,
            RopeDirection direction) {
  if constexpr (kHasCuda) {
    if (HasCudaKernels(q)) {
      const at::Tensor y_q = at::empty(q.sizes(), q.options());
      const at::Tensor y_k = at::empty(k.sizes(), k.options());
      RopeIntoCuda(WithUnitStride(q), WithUnitStride(k), cos, sin, direction, y_q, y_k);
      return {y_q, y_k};
    }
  }
  return {RopeRotate(q, cos, sin, direction), RopeRotate(k, cos, sin, direction)};
}

Pair Forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& cos,
             const at::Tensor& sin) {
  Check(q, k, cos, sin);
  RecordPath(Op::kRope, PathOf(q));
  return Rotate(q, k, cos, sin, RopeDirection::kForward);
}

Pair Backward(const at::Tensor& dq, const at::Tensor& dk, const at::Tensor& cos,
              const at::Tensor& sin) {
  Check(dq, dk, cos, sin);
  return Rotate(dq, dk, cos, sin, RopeDirection::kBackward);
}

Pair Meta(const at::Tensor& q, const at::Tensor& k, const at::Tensor& cos, const at::Tensor& sin) {
  Check(q, k, cos, sin);
  return {at::empty_symint(q.sym_sizes(), q.options()),
          at::empty_symint(k.sym_sizes(), k.options())};
}

void InPlaceOne(at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  if (HasCpuLoops(x) && x.stride(2) == 1) {
    RopeIntoCpu(x, cos, sin, RopeDirection::kForward, x);
  } else {
    x.copy_(RopeRotate(x, cos, sin, RopeDirection::kForward));
  }
}

void InPlace(at::Tensor& q, at::Tensor& k, const at::Tensor& cos, const at::Tensor& sin) {
  Check(q, k, cos, sin);
  RecordPath(Op::kRope, PathOf(q));
  if constexpr (kHasCuda) {
    if (HasCudaKernels(q) && q.stride(2) == 1 && k.stride(2) == 1) {
      return RopeIntoCuda(q, k, cos, sin, RopeDirection::kForward, q, k);
    }
  }
  InPlaceOne(q, cos, sin);
  InPlaceOne(k, cos, sin);
}

void InPlaceMeta(at::Tensor& q, at::Tensor& k, const at::Tensor& cos, const at::Tensor& sin) {
  Check(q, k, cos, sin);
}

class Function : public torch::autograd::Function<Function> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* ctx,
                                                const at::Tensor& q, const at::Tensor& k,
                                                const at::Tensor& cos, const at::Tensor& sin) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({cos, sin});
    auto [q_out, k_out] = Rope(q, k, cos, sin);
    return {q_out, k_out};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    CheckFirstDerivative(kOp);
    static const auto op = FindOp<decltype(Backward)>("liger::rope_backward");
    const auto saved = ctx->get_saved_variables();
    auto [dq, dk] = op.call(grads[0], grads[1], saved[0], saved[1]);
    return {dq, dk, {}, {}};
  }
};

Pair WithAutograd(const at::Tensor& q, const at::Tensor& k, const at::Tensor& cos,
                  const at::Tensor& sin) {
  auto out = Function::apply(q, k, cos, sin);
  return {out[0], out[1]};
}

TORCH_LIBRARY_FRAGMENT(liger, m) {
  m.def("rope(Tensor q, Tensor k, Tensor cos, Tensor sin) -> (Tensor, Tensor)",
        {at::Tag::pt2_compliant_tag});
  m.def("rope_(Tensor(a!) q, Tensor(b!) k, Tensor cos, Tensor sin) -> ()");
  m.def("rope_backward(Tensor grad_q, Tensor grad_k, Tensor cos, Tensor sin) -> (Tensor, Tensor)");
}
TORCH_LIBRARY_IMPL(liger, CompositeExplicitAutograd, m) {
  m.impl("rope", Forward);
  m.impl("rope_", InPlace);
  m.impl("rope_backward", Backward);
}
TORCH_LIBRARY_IMPL(liger, Autograd, m) { m.impl("rope", WithAutograd); }
TORCH_LIBRARY_IMPL(liger, Meta, m) {
  m.impl("rope", Meta);
  m.impl("rope_", InPlaceMeta);
  m.impl("rope_backward", Meta);
}

}  // namespace

std::pair<at::Tensor, at::Tensor> Rope(const at::Tensor& q, const at::Tensor& k,
                                       const at::Tensor& cos, const at::Tensor& sin) {
  static const auto op = FindOp<decltype(Forward)>("liger::rope");
  auto [q_out, k_out] = op.call(q, k, cos, sin);
  return {q_out, k_out};
}

void RopeInPlace(at::Tensor& q, at::Tensor& k, const at::Tensor& cos, const at::Tensor& sin) {
  TORCH_CHECK(!c10::GradMode::is_enabled() || !(q.requires_grad() || k.requires_grad()), kOp,
              ": the in-place form has no gradient, and q of shape ", q.sizes(), " or k of shape ",
              k.sizes(), " needs one");
  static const auto op = FindOp<decltype(InPlace)>("liger::rope_");
  op.call(q, k, cos, sin);
}

}  // namespace liger::kernels
