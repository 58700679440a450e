#include "kernels/cross_entropy/cross_entropy.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "kernels/common/autograd.h"
#include "kernels/common/check.h"
#include "kernels/common/cpu.h"
#include "kernels/common/cuda.h"
#include "kernels/common/logits.h"
#include "kernels/common/path_of.h"
#include "kernels/common/unit_stride.h"

namespace liger::kernels {
namespace {

constexpr char kOp[] = "cross_entropy";

using LossAndLogsumexp = std::tuple<at::Tensor, at::Tensor>;
using LossAndGrad = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

void Check(const at::Tensor& logits, const at::Tensor& target) {
  const Arg logits_arg{kOp, "logits", logits}, target_arg{kOp, "target", target};
  CheckFloating(logits_arg);
  CheckDim(logits_arg, 2);
  CheckNotEmpty(logits_arg, 1);
  CheckDtype(target_arg, at::kLong);
  CheckShape(target_arg, {logits.sym_size(0)}, "[T]");
  CheckSameDevice(target_arg, logits_arg);
}

void CheckBackward(const at::Tensor& grad, const at::Tensor& logits, const at::Tensor& target,
                   const at::Tensor& logsumexp) {
  Check(logits, target);
  const Arg logits_arg{kOp, "logits", logits}, lse_arg{kOp, "logsumexp", logsumexp};
  CheckDtype(lse_arg, at::kDouble);
  CheckShape(lse_arg, {logits.sym_size(0)}, "[T]");
  CheckSameDevice(lse_arg, logits_arg);
  CheckDim({kOp, "grad", grad}, 0);
  CheckSameDevice({kOp, "grad", grad}, logits_arg);
}

// From 0: an empty sum times -scale would be -0.
at::Tensor Loss(const LogitsStats& stats, double scale, at::ScalarType dtype) {
  return at::rsub(stats.logp.sum() * scale, 0).to(dtype);
}

LossAndLogsumexp Forward(const at::Tensor& logits, const at::Tensor& target, double scale,
                         int64_t ignore_index) {
  Check(logits, target);
  if (target.is_cpu()) CheckTargetRange(kOp, target, logits.size(1), ignore_index);
  RecordPath(Op::kCrossEntropy, PathOf(logits));
  const at::Tensor rows = WithUnitStride(logits);
  const LogitsStats stats = ReduceLogits(rows, target.contiguous(), ignore_index, false);
  return {Loss(stats, scale, ComputeDtype(logits)), stats.logsumexp};
}

LossAndLogsumexp ForwardMeta(const at::Tensor& logits, const at::Tensor& target, double, int64_t) {
  Check(logits, target);
  return {at::empty({}, logits.options().dtype(ComputeDtype(logits))),
          at::empty_symint({logits.sym_size(0)}, logits.options().dtype(at::kDouble))};
}

at::Tensor Factor(const at::Tensor& logits, double scale) {
  return at::full({logits.size(0)}, scale, logits.options().dtype(ComputeDtype(logits)));
}

// The gradient as well, for an upstream gradient of 1.
LossAndGrad ForwardAndGrad(const at::Tensor& logits, const at::Tensor& target, double scale,
                           int64_t ignore_index) {
  Check(logits, target);
  if (target.is_cpu()) CheckTargetRange(kOp, target, logits.size(1), ignore_index);
  RecordPath(Op::kCrossEntropy, PathOf(logits));
  const at::Tensor rows = WithUnitStride(logits);
  const at::Tensor dlogits = at::empty(logits.sizes(), logits.options());
  const LogitsStats stats = CrossEntropyAndGrad(rows, target.contiguous(), Factor(logits, scale),
                                                ignore_index, /*stats=*/false, dlogits);
  return {Loss(stats, scale, ComputeDtype(logits)), stats.logsumexp, dlogits};
}

LossAndGrad ForwardAndGradMeta(const at::Tensor& logits, const at::Tensor& target, double scale,
                               int64_t ignore_index) {
  auto [loss, logsumexp] = ForwardMeta(logits, target, scale, ignore_index);
  return {loss, logsumexp, at::empty_symint(logits.sym_sizes(), logits.options())};
}

// Into `out`, which may be the logits.
void Gradient(const at::Tensor& grad, const at::Tensor& logits, const at::Tensor& target,
              const at::Tensor& logsumexp, double scale, int64_t ignore_index,
              const at::Tensor& out) {
  if (target.is_cpu()) CheckTargetRange(kOp, target, logits.size(1), ignore_index);
  const at::Tensor factor =
      (grad.to(ComputeDtype(logits)) * scale).expand({logits.size(0)}).contiguous();
  CrossEntropyGrad(logits, logsumexp.contiguous(), target.contiguous(), factor, ignore_index, out);
}

at::Tensor Backward(const at::Tensor& grad, const at::Tensor& logits, const at::Tensor& target,
                    const at::Tensor& logsumexp, double scale, int64_t ignore_index) {
  CheckBackward(grad, logits, target, logsumexp);
  const at::Tensor rows = WithUnitStride(logits);
  at::Tensor dlogits = at::empty(logits.sizes(), logits.options());
  Gradient(grad, rows, target, logsumexp, scale, ignore_index, dlogits);
  return dlogits;
}

at::Tensor BackwardMeta(const at::Tensor& grad, const at::Tensor& logits, const at::Tensor& target,
                        const at::Tensor& logsumexp, double, int64_t) {
  CheckBackward(grad, logits, target, logsumexp);
  return at::empty_symint(logits.sym_sizes(), logits.options());
}

void BackwardInPlace(at::Tensor& logits, const at::Tensor& grad, const at::Tensor& target,
                     const at::Tensor& logsumexp, double scale, int64_t ignore_index) {
  CheckBackward(grad, logits, target, logsumexp);
  CheckContiguous({kOp, "logits", logits});
  Gradient(grad, logits, target, logsumexp, scale, ignore_index, logits);
}

void BackwardInPlaceMeta(at::Tensor& logits, const at::Tensor& grad, const at::Tensor& target,
                         const at::Tensor& logsumexp, double, int64_t) {
  CheckBackward(grad, logits, target, logsumexp);
}

void CheckCorrect(const at::Tensor& dlogits, const at::Tensor& grad, const at::Tensor& logits,
                  const at::Tensor& target, const at::Tensor& logsumexp) {
  CheckBackward(grad, logits, target, logsumexp);
  const Arg arg{kOp, "dlogits", dlogits}, logits_arg{kOp, "logits", logits};
  CheckShape(arg, logits.sym_sizes(), "logits' shape");
  CheckSameDtype(arg, logits_arg);
  CheckSameDevice(arg, logits_arg);
  CheckContiguous(arg);
}

// dlogits stands there for an upstream gradient of 1 and is computed again for any other; which it
// is the GPU asks itself.
void Correct(at::Tensor& dlogits, const at::Tensor& grad, const at::Tensor& logits,
             const at::Tensor& target, const at::Tensor& logsumexp, double scale,
             int64_t ignore_index) {
  CheckCorrect(dlogits, grad, logits, target, logsumexp);
  const at::Tensor rows = WithUnitStride(logits);
  CrossEntropyGradUnlessOne(rows, logsumexp.contiguous(), target.contiguous(),
                            grad.to(ComputeDtype(logits)), scale, ignore_index, dlogits);
}

void CorrectMeta(at::Tensor& dlogits, const at::Tensor& grad, const at::Tensor& logits,
                 const at::Tensor& target, const at::Tensor& logsumexp, double, int64_t) {
  CheckCorrect(dlogits, grad, logits, target, logsumexp);
}

at::Tensor AndGradInPlace(at::Tensor& logits, const at::Tensor& target, double scale,
                          int64_t ignore_index) {
  Check(logits, target);
  CheckContiguous({kOp, "logits", logits});
  if (target.is_cpu()) CheckTargetRange(kOp, target, logits.size(1), ignore_index);
  RecordPath(Op::kCrossEntropy, PathOf(logits));
  const LogitsStats stats = CrossEntropyAndGrad(logits, target.contiguous(), Factor(logits, scale),
                                                ignore_index, /*stats=*/false, logits);
  return Loss(stats, scale, ComputeDtype(logits));
}

at::Tensor AndGradInPlaceMeta(at::Tensor& logits, const at::Tensor& target, double, int64_t) {
  Check(logits, target);
  return at::empty({}, logits.options().dtype(ComputeDtype(logits)));
}

LossAndLogsumexp CallForward(const at::Tensor& logits, const at::Tensor& target, double scale,
                             int64_t ignore_index) {
  static const auto op = FindOp<decltype(Forward)>("liger::cross_entropy_forward");
  return op.call(logits, target, scale, ignore_index);
}

at::Tensor WithoutAutograd(const at::Tensor& logits, const at::Tensor& target, double scale,
                           int64_t ignore_index) {
  return std::get<0>(CallForward(logits, target, scale, ignore_index));
}

class Function : public torch::autograd::Function<Function> {
 public:
  // Gradients are off in here, so the caller says whether one is needed.
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& logits,
                            const at::Tensor& target, double scale, int64_t ignore_index,
                            bool need_grad) {
    at::AutoDispatchBelowADInplaceOrView guard;
    at::Tensor loss, logsumexp;
    // On a CPU the gradient costs more than reading the logits once more.
    if (need_grad && HasCudaKernels(logits)) {
      static const auto op =
          FindOp<decltype(ForwardAndGrad)>("liger::cross_entropy_forward_and_grad");
      at::Tensor dlogits;
      std::tie(loss, logsumexp, dlogits) = op.call(logits, target, scale, ignore_index);
      // Not among the saved variables: backward gives it away.
      ctx->saved_data[kGradient] = dlogits;
    } else {
      std::tie(loss, logsumexp) = CallForward(logits, target, scale, ignore_index);
    }
    ctx->save_for_backward({logits, target, logsumexp});
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["ignore_index"] = ignore_index;
    return loss;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    CheckFirstDerivative(kOp);
    const auto saved = ctx->get_saved_variables();
    const double scale = ctx->saved_data["scale"].toDouble();
    const int64_t ignore_index = ctx->saved_data["ignore_index"].toInt();
    torch::autograd::variable_list out(5);
    const auto ready = ctx->saved_data.find(kGradient);
    if (ready != ctx->saved_data.end()) {
      out[0] = ready->second.toTensor();
      ctx->saved_data.erase(ready);
      static const auto op = FindOp<decltype(Correct)>("liger::cross_entropy_correct_grad_");
      op.call(out[0], grads[0], saved[0], saved[1], saved[2], scale, ignore_index);
    } else {
      static const auto op = FindOp<decltype(Backward)>("liger::cross_entropy_backward");
      out[0] = op.call(grads[0], saved[0], saved[1], saved[2], scale, ignore_index);
    }
    return out;
  }

 private:
  static constexpr char kGradient[] = "dlogits";
};

at::Tensor WithAutograd(const at::Tensor& logits, const at::Tensor& target, double scale,
                        int64_t ignore_index) {
  const bool need_grad = c10::GradMode::is_enabled() && logits.requires_grad();
  return Function::apply(logits, target, scale, ignore_index, need_grad);
}

TORCH_LIBRARY_FRAGMENT(liger, m) {
  m.def(
      "cross_entropy(Tensor logits, Tensor target, float scale=1.0, int ignore_index=-100) "
      "-> Tensor",
      {at::Tag::pt2_compliant_tag});
  m.def(
      "cross_entropy_forward(Tensor logits, Tensor target, float scale, int ignore_index) "
      "-> (Tensor loss, Tensor logsumexp)");
  m.def(
      "cross_entropy_forward_and_grad(Tensor logits, Tensor target, float scale, "
      "int ignore_index) -> (Tensor loss, Tensor logsumexp, Tensor dlogits)");
  m.def(
      "cross_entropy_correct_grad_(Tensor(a!) dlogits, Tensor grad, Tensor logits, Tensor target, "
      "Tensor logsumexp, float scale, int ignore_index) -> ()");
  m.def(
      "cross_entropy_backward(Tensor grad, Tensor logits, Tensor target, Tensor logsumexp, "
      "float scale, int ignore_index) -> Tensor");
  m.def(
      "cross_entropy_backward_(Tensor(a!) logits, Tensor grad, Tensor target, Tensor logsumexp, "
      "float scale, int ignore_index) -> ()");
  m.def(
      "cross_entropy_and_grad_(Tensor(a!) logits, Tensor target, float scale=1.0, "
      "int ignore_index=-100) -> Tensor");
}
TORCH_LIBRARY_IMPL(liger, CompositeExplicitAutograd, m) {
  m.impl("cross_entropy", WithoutAutograd);
  m.impl("cross_entropy_forward", Forward);
  m.impl("cross_entropy_forward_and_grad", ForwardAndGrad);
  m.impl("cross_entropy_correct_grad_", Correct);
  m.impl("cross_entropy_backward", Backward);
  m.impl("cross_entropy_backward_", BackwardInPlace);
  m.impl("cross_entropy_and_grad_", AndGradInPlace);
}
TORCH_LIBRARY_IMPL(liger, Autograd, m) { m.impl("cross_entropy", WithAutograd); }
TORCH_LIBRARY_IMPL(liger, Meta, m) {
  m.impl("cross_entropy_forward", ForwardMeta);
  m.impl("cross_entropy_forward_and_grad", ForwardAndGradMeta);
  m.impl("cross_entropy_correct_grad_", CorrectMeta);
  m.impl("cross_entropy_backward", BackwardMeta);
  m.impl("cross_entropy_backward_", BackwardInPlaceMeta);
  m.impl("cross_entropy_and_grad_", AndGradInPlaceMeta);
}

}  // namespace

at::Tensor CrossEntropy(const at::Tensor& logits, const at::Tensor& target, double scale,
                        int64_t ignore_index) {
  static const auto op = FindOp<decltype(WithoutAutograd)>("liger::cross_entropy");
  return op.call(logits, target, scale, ignore_index);
}

at::Tensor CrossEntropyAndGradInPlace(at::Tensor& logits, const at::Tensor& target, double scale,
                                      int64_t ignore_index) {
  static const auto op = FindOp<decltype(AndGradInPlace)>("liger::cross_entropy_and_grad_");
  return op.call(logits, target, scale, ignore_index);
}

}  // namespace liger::kernels
