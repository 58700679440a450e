#include "kernels/rope/rope.h"

#include <ATen/ATen.h>
#include <ATen/MemoryOverlap.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "kernels/common/autograd.h"
#include "kernels/common/check.h"
#include "kernels/common/cpu.h"
#include "kernels/common/path_of.h"
#include "kernels/common/unit_stride.h"
#include "kernels/rope/rope_impl.h"

namespace liger::kernels {
namespace {

constexpr char kOp[] = "rope";

using Pair = std::tuple<at::Tensor, at::Tensor>;

void CheckTable(const Arg& table, const Arg& q, bool multimodal) {
  const auto T = q.tensor.sym_size(0);
  CheckDim(table, multimodal ? 3 : 2);
  const auto R = table.tensor.sym_size(-1);
  if (multimodal) {
    CheckShape(table, {3, T, R}, "[3, T, R]");
  } else {
    CheckShape(table, {T, R}, "[T, R]");
  }
  CheckSameDtypeOrFloat(table, q);
  CheckSameDevice(table, q);
  TORCH_CHECK(R % 2 == 0 && R <= q.tensor.sym_size(2), kOp, ": ", table.name, " has shape ",
              table.tensor.sym_sizes(),
              ", its last dimension must be even and at most D = ", q.tensor.sym_size(2));
}

void CheckSection(at::IntArrayRef section, const at::Tensor& cos) {
  if (section.empty()) return;
  const bool fits = section.size() == 3 &&
                    std::ranges::all_of(section, [](int64_t n) { return n >= 0; }) &&
                    2 * (section[0] + section[1] + section[2]) == cos.sym_size(-1);
  TORCH_CHECK_VALUE(fits, kOp, ": mrope_section is ", section,
                    ", expected three numbers that sum to half of cos's last dimension, ",
                    cos.sym_size(-1));
}

void Check(const at::Tensor& q, const at::Tensor& k, const at::Tensor& cos, const at::Tensor& sin,
           at::IntArrayRef section) {
  const Arg q_arg{kOp, "q", q}, k_arg{kOp, "k", k};
  CheckFloating(q_arg);
  CheckDim(q_arg, 3);
  CheckDim(k_arg, 3);
  CheckShape(k_arg, {q.sym_size(0), k.sym_size(1), q.sym_size(2)}, "[T, K, D]");
  CheckSameDtype(k_arg, q_arg);
  CheckSameDevice(k_arg, q_arg);
  CheckTable({kOp, "cos", cos}, q_arg, !section.empty());
  CheckTable({kOp, "sin", sin}, q_arg, !section.empty());
  CheckShape({kOp, "sin", sin}, cos.sym_sizes(), "cos's shape");
  CheckSection(section, cos);
}

Pair Rotate(const at::Tensor& q, const at::Tensor& k, const at::Tensor& cos, const at::Tensor& sin,
            at::IntArrayRef section, RopeDirection direction) {
  if constexpr (kHasCuda) {
    if (HasCudaKernels(q)) {
      const at::Tensor y_q = at::empty(q.sizes(), q.options());
      const at::Tensor y_k = at::empty(k.sizes(), k.options());
      RopeIntoCuda(WithUnitStride(q), WithUnitStride(k), cos, sin, section, direction, y_q, y_k);
      return {y_q, y_k};
    }
  }
  const at::Tensor c = OneRopeTable(cos, section), s = OneRopeTable(sin, section);
  return {RopeRotate(q, c, s, direction), RopeRotate(k, c, s, direction)};
}

Pair Forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& cos, const at::Tensor& sin,
             at::IntArrayRef section) {
  Check(q, k, cos, sin, section);
  RecordPath(Op::kRope, PathOf(q));
  return Rotate(q, k, cos, sin, section, RopeDirection::kForward);
}

Pair Backward(const at::Tensor& dq, const at::Tensor& dk, const at::Tensor& cos,
              const at::Tensor& sin, at::IntArrayRef section) {
  Check(dq, dk, cos, sin, section);
  return Rotate(dq, dk, cos, sin, section, RopeDirection::kBackward);
}

Pair Meta(const at::Tensor& q, const at::Tensor& k, const at::Tensor& cos, const at::Tensor& sin,
          at::IntArrayRef section) {
  Check(q, k, cos, sin, section);
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

void InPlace(at::Tensor& q, at::Tensor& k, const at::Tensor& cos, const at::Tensor& sin,
             at::IntArrayRef section) {
  Check(q, k, cos, sin, section);
  CheckNoOverlap({kOp, "q", q});
  CheckNoOverlap({kOp, "k", k});
  TORCH_CHECK_VALUE(at::get_overlap_status(q, k) != at::MemOverlapStatus::Full, kOp,
                    ": q and k are one tensor of shape ", q.sym_sizes(),
                    ", which would be turned twice");
  RecordPath(Op::kRope, PathOf(q));
  if constexpr (kHasCuda) {
    if (HasCudaKernels(q) && q.stride(2) == 1 && k.stride(2) == 1) {
      return RopeIntoCuda(q, k, cos, sin, section, RopeDirection::kForward, q, k);
    }
  }
  const at::Tensor c = OneRopeTable(cos, section), s = OneRopeTable(sin, section);
  InPlaceOne(q, c, s);
  InPlaceOne(k, c, s);
}

void InPlaceMeta(at::Tensor& q, at::Tensor& k, const at::Tensor& cos, const at::Tensor& sin,
                 at::IntArrayRef section) {
  Check(q, k, cos, sin, section);
}

class Function : public torch::autograd::Function<Function> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* ctx,
                                                const at::Tensor& q, const at::Tensor& k,
                                                const at::Tensor& cos, const at::Tensor& sin,
                                                at::IntArrayRef section) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({cos, sin});
    ctx->saved_data["mrope_section"] = section.vec();
    auto [q_out, k_out] = Rope(q, k, cos, sin, section);
    return {q_out, k_out};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    CheckFirstDerivative(kOp);
    static const auto op = FindOp<decltype(Backward)>("liger::rope_backward");
    const auto saved = ctx->get_saved_variables();
    const std::vector<int64_t> section = ctx->saved_data["mrope_section"].toIntVector();
    auto [dq, dk] = op.call(grads[0], grads[1], saved[0], saved[1], section);
    return {dq, dk, {}, {}, {}};
  }
};

Pair WithAutograd(const at::Tensor& q, const at::Tensor& k, const at::Tensor& cos,
                  const at::Tensor& sin, at::IntArrayRef section) {
  auto out = Function::apply(q, k, cos, sin, section);
  return {out[0], out[1]};
}

TORCH_LIBRARY_FRAGMENT(liger, m) {
  m.def(
      "rope(Tensor q, Tensor k, Tensor cos, Tensor sin, int[] mrope_section=[]) "
      "-> (Tensor, Tensor)",
      {at::Tag::pt2_compliant_tag});
  m.def("rope_(Tensor(a!) q, Tensor(b!) k, Tensor cos, Tensor sin, int[] mrope_section=[]) -> ()");
  m.def(
      "rope_backward(Tensor grad_q, Tensor grad_k, Tensor cos, Tensor sin, int[] mrope_section) "
      "-> (Tensor, Tensor)");
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
                                       const at::Tensor& cos, const at::Tensor& sin,
                                       at::IntArrayRef mrope_section) {
  static const auto op = FindOp<decltype(Forward)>("liger::rope");
  auto [q_out, k_out] = op.call(q, k, cos, sin, mrope_section);
  return {q_out, k_out};
}

void RopeInPlace(at::Tensor& q, at::Tensor& k, const at::Tensor& cos, const at::Tensor& sin,
                 at::IntArrayRef mrope_section) {
  static const auto op = FindOp<decltype(InPlace)>("liger::rope_");
  op.call(q, k, cos, sin, mrope_section);
}

}  // namespace liger::kernels
