#include "kernels/cross_entropy/cross_entropy.h"

#include <torch/library.h>
#include <torch/torch.h>

#include "kernels/common/autograd.h"
#include "kernels/common/check.h"
#include "kernels/common/cpu.h"
#include "kernels/common/path_of.h"
#include "kernels/common/logits.h"

namespace liger::kernels {
namespace {

constexpr char kOp[] = "cross_entropy";

using LossAndLogsumexp = std::tuple<at::Tensor, at::Tensor>;

void Check(const at::Tensor& logits, const at::Tensor& target) {
  const Arg logits_arg{kOp, "logits", logits}, target_arg{kOp, "target", target};
  CheckFloating(logits_arg);
  CheckDim(logits_arg, 2);
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

LossAndLogsumexp Forward(const at::Tensor& logits, const at::Tensor& target, double scale,
                         int64_t ignore_index) {
  Check(logits, target);
  if (target.is_cpu()) CheckTargetRange(kOp, target, logits.size(1), ignore_index);
  RecordPath(Op::kCrossEntropy, PathOf(logits));
  const at::Tensor rows = logits.stride(1) == 1 ? logits : logits.contiguous();
  const LogitsStats stats = ReduceLogits(rows, target.contiguous(), ignore_index, false);
  return {(stats.logp.sum() * -scale).to(ComputeDtype(logits)), stats.logsumexp};
}

LossAndLogsumexp ForwardMeta(const at::Tensor& logits, const at::Tensor& target, double, int64_t) {
  Check(logits, target);
  return {at::empty({}, logits.options().dtype(ComputeDtype(logits))),
          at::empty_symint({logits.sym_size(0)}, logits.options().dtype(at::kDouble))};
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
  const at::Tensor rows = logits.stride(1) == 1 ? logits : logits.contiguous();
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

at::Tensor AndGradInPlace(at::Tensor& logits, const at::Tensor& target, double scale,
                          int64_t ignore_index) {
  Check(logits, target);
  CheckContiguous({kOp, "logits", logits});
  if (target.is_cpu()) CheckTargetRange(kOp, target, logits.size(1), ignore_index);
  RecordPath(Op::kCrossEntropy, PathOf(logits));
  const auto compute = ComputeDtype(logits);
  const at::Tensor factor = at::full({logits.size(0)}, scale, logits.options().dtype(compute));
  const LogitsStats stats =
      CrossEntropyInPlace(logits, target.contiguous(), factor, ignore_index, false);
  return (stats.logp.sum() * -scale).to(compute);
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
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& logits,
                            const at::Tensor& target, double scale, int64_t ignore_index) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [loss, logsumexp] = CallForward(logits, target, scale, ignore_index);
    ctx->save_for_backward({logits, target, logsumexp});
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["ignore_index"] = ignore_index;
    return loss;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    CheckFirstDerivative(kOp);
    static const auto op = FindOp<decltype(Backward)>("liger::cross_entropy_backward");
    const auto saved = ctx->get_saved_variables();
    return {op.call(grads[0], saved[0], saved[1], saved[2], ctx->saved_data["scale"].toDouble(),
                    ctx->saved_data["ignore_index"].toInt()),
            {},
            {},
            {}};
  }
};

at::Tensor WithAutograd(const at::Tensor& logits, const at::Tensor& target, double scale,
                        int64_t ignore_index) {
  return Function::apply(logits, target, scale, ignore_index);
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
  m.impl("cross_entropy_backward", Backward);
  m.impl("cross_entropy_backward_", BackwardInPlace);
  m.impl("cross_entropy_and_grad_", AndGradInPlace);
}
TORCH_LIBRARY_IMPL(liger, Autograd, m) { m.impl("cross_entropy", WithAutograd); }
TORCH_LIBRARY_IMPL(liger, Meta, m) {
  m.impl("cross_entropy_forward", ForwardMeta);
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
  TORCH_CHECK(!c10::GradMode::is_enabled() || !logits.requires_grad(), kOp,
              ": the in-place form has no autograd, and logits of shape ", logits.sizes(),
              " need a gradient");
  static const auto op = FindOp<decltype(AndGradInPlace)>("liger::cross_entropy_and_grad_");
  return op.call(logits, target, scale, ignore_index);
}

}  // namespace liger::kernels
