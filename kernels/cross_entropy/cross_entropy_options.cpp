#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <cmath>
#include <utility>

#include "kernels/common/autograd.h"
#include "kernels/common/check.h"
#include "kernels/common/cpu.h"
#include "kernels/common/logits_options.h"
#include "kernels/common/parse_reduction.h"
#include "kernels/common/path_of.h"
#include "kernels/common/unit_stride.h"
#include "kernels/cross_entropy/cross_entropy.h"

namespace liger::kernels {
namespace {

constexpr char kOp[] = "cross_entropy";

using OptionalTensor = std::optional<at::Tensor>;
// loss, z_loss, logsumexp, entropy, argmax; the last two [0] unless asked for.
using Public = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;
// And what backward needs: the logsumexp in float64; float64 [2]: what the loss of a row and its
// z-loss are multiplied by.
using ForwardResult =
    std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

Reduction Parse(c10::string_view reduction) {
  return ParseReduction(kOp, reduction, {Reduction::kNone, Reduction::kSum, Reduction::kMean});
}

void Check(const at::Tensor& logits, const at::Tensor& target, const OptionalTensor& weight,
           double label_smoothing, double softcap, double lse_square_scale) {
  const Arg logits_arg{kOp, "logits", logits}, target_arg{kOp, "target", target};
  CheckFloating(logits_arg);
  CheckDim(logits_arg, 2);
  CheckNotEmpty(logits_arg, 1);
  CheckDtype(target_arg, at::kLong);
  CheckShape(target_arg, {logits.sym_size(0)}, "[T]");
  CheckSameDevice(target_arg, logits_arg);
  if (weight.has_value()) {
    const Arg weight_arg{kOp, "class_weight", *weight};
    CheckSameDtypeOrFloat(weight_arg, logits_arg);
    CheckShape(weight_arg, {logits.sym_size(1)}, "[V]");
    CheckSameDevice(weight_arg, logits_arg);
  }
  TORCH_CHECK_VALUE(label_smoothing >= 0 && label_smoothing <= 1, kOp, ": label_smoothing is ",
                    label_smoothing, ", expected a value in [0, 1]");
  TORCH_CHECK_VALUE(softcap >= 0 && std::isfinite(softcap), kOp, ": softcap is ", softcap,
                    ", expected a positive number, or 0 for none");
  TORCH_CHECK_VALUE(lse_square_scale >= 0, kOp, ": lse_square_scale is ", lse_square_scale,
                    ", expected a value >= 0");
}

// What forward and backward share, from their flat arguments.
struct Terms {
  LogitsOptions options;
  at::Tensor target;           // contiguous
  at::Tensor valid_T;          // float64: 1 where the target counts
  at::Tensor target_weight_T;  // float64: class_weight[target], 0 where it does not
  double hit;                  // factor of the target's own term
  double smooth;               // factor of each class's term
  at::Tensor weight_sum;       // float64 scalar: sum of class_weight
  double lse_square_scale;
};

Terms MakeTerms(const at::Tensor& logits, const at::Tensor& target, const OptionalTensor& weight,
                int64_t ignore_index, double label_smoothing, double softcap,
                double lse_square_scale) {
  const int64_t V = logits.size(1);
  if (target.is_cpu()) CheckTargetRange(kOp, target, V, ignore_index);
  Terms terms{.options = {.ignore_index = ignore_index,
                          .softcap = softcap,
                          .class_weight_V = {},
                          .weighted_sum = label_smoothing > 0},
              .target = target.contiguous(),
              .hit = 1 - label_smoothing,
              .smooth = label_smoothing / static_cast<double>(std::max<int64_t>(1, V)),
              .lse_square_scale = lse_square_scale};
  const auto wide = logits.options().dtype(at::kDouble);
  terms.valid_T = (target != ignore_index).to(at::kDouble);
  terms.target_weight_T = terms.valid_T;
  terms.weight_sum = at::full({}, static_cast<double>(V), wide);
  if (!weight.has_value()) return terms;
  terms.options.class_weight_V = weight->to(ComputeDtype(logits)).contiguous();
  const at::Tensor w = weight->to(at::kDouble);
  terms.weight_sum = w.sum();
  // A target out of range, which on a GPU makes the loss NaN, must not be an index here.
  const at::Tensor index = target.clamp(0, std::max<int64_t>(0, V - 1));
  if (V > 0) terms.target_weight_T = w.index_select(0, index) * terms.valid_T;
  return terms;
}

at::Tensor Norm(const Terms& terms, Reduction reduction, double scale) {
  if (reduction != Reduction::kMean) return at::full({2}, scale, terms.weight_sum.options());
  const at::Tensor counts = at::stack({terms.target_weight_T.sum(), terms.valid_T.sum()});
  return scale / counts.masked_fill(counts == 0, 1);
}

LogitsCoefficients CoefficientsOf(const Terms& terms, const at::Tensor& grad,
                                  const at::Tensor& logsumexp, const at::Tensor& norm,
                                  at::ScalarType dtype) {
  const at::Tensor upstream = grad.to(at::kDouble);
  const at::Tensor factor = upstream * norm[0] * terms.valid_T;
  const at::Tensor z_factor = upstream * norm[1] * (2 * terms.lse_square_scale);
  const at::Tensor onehot = factor * terms.target_weight_T * terms.hit;
  const at::Tensor smooth = factor * terms.smooth;
  const at::Tensor softmax = onehot + smooth * terms.weight_sum + z_factor * logsumexp;
  return {softmax.to(dtype), onehot.to(dtype), smooth.to(dtype)};
}

ForwardResult Run(const at::Tensor& rows, const Terms& terms, Reduction reduction, double scale,
                  bool token_stats) {
  const auto compute = ComputeDtype(rows);
  LogitsOptions options = terms.options;
  options.token_stats = token_stats;
  const LogitsSums sums = SumLogits(rows, terms.target, options);
  const at::Tensor norm = Norm(terms, reduction, scale);
  at::Tensor z_loss = sums.logsumexp.square() * terms.lse_square_scale * norm[1];
  at::Tensor loss = terms.target_weight_T * sums.logp * -terms.hit;
  if (terms.smooth > 0) {
    loss = loss + terms.smooth * (terms.weight_sum * sums.logsumexp - sums.weighted_sum);
  }
  loss = loss * norm[0] + z_loss;
  if (reduction != Reduction::kNone) {
    loss = loss.sum();
    z_loss = z_loss.sum();
  }
  const at::Tensor none = at::empty({0}, rows.options().dtype(compute));
  return {loss.to(compute),
          // Outputs of an op are tensors of their own.
          z_loss.to(compute, /*non_blocking=*/false, /*copy=*/true),
          sums.logsumexp.to(compute, /*non_blocking=*/false, /*copy=*/true),
          token_stats ? sums.entropy : none, token_stats ? sums.argmax : none.to(at::kLong),
          sums.logsumexp, norm};
}

ForwardResult Forward(const at::Tensor& logits, const at::Tensor& target,
                      const OptionalTensor& weight, c10::string_view reduction, double scale,
                      int64_t ignore_index, double label_smoothing, double softcap,
                      double lse_square_scale, bool token_stats) {
  Check(logits, target, weight, label_smoothing, softcap, lse_square_scale);
  const Reduction kind = Parse(reduction);
  RecordPath(Op::kCrossEntropy, PathOf(logits));
  const Terms terms =
      MakeTerms(logits, target, weight, ignore_index, label_smoothing, softcap, lse_square_scale);
  return Run(WithUnitStride(logits), terms, kind, scale, token_stats);
}

ForwardResult ForwardMeta(const at::Tensor& logits, const at::Tensor& target,
                          const OptionalTensor& weight, c10::string_view reduction, double, int64_t,
                          double label_smoothing, double softcap, double lse_square_scale,
                          bool token_stats) {
  Check(logits, target, weight, label_smoothing, softcap, lse_square_scale);
  const auto options = logits.options().dtype(ComputeDtype(logits));
  const auto per_token = [&](at::ScalarType dtype) {
    return at::empty_symint({logits.sym_size(0)}, options.dtype(dtype));
  };
  const auto compute = ComputeDtype(logits);
  const auto loss = [&] {
    return Parse(reduction) == Reduction::kNone ? per_token(compute)
                                                         : at::empty({}, options);
  };
  const auto stat = [&](at::ScalarType dtype) {
    return token_stats ? per_token(dtype) : at::empty({0}, options.dtype(dtype));
  };
  return {loss(),
          loss(),
          per_token(compute),
          stat(compute),
          stat(at::kLong),
          per_token(at::kDouble),
          at::empty({2}, options.dtype(at::kDouble))};
}

void CheckBackward(const at::Tensor& grad, const at::Tensor& logits, const at::Tensor& logsumexp,
                   const at::Tensor& norm) {
  const Arg logits_arg{kOp, "logits", logits}, lse_arg{kOp, "logsumexp", logsumexp};
  const Arg grad_arg{kOp, "grad", grad}, norm_arg{kOp, "norm", norm};
  CheckDtype(lse_arg, at::kDouble);
  CheckShape(lse_arg, {logits.sym_size(0)}, "[T]");
  CheckSameDevice(lse_arg, logits_arg);
  if (grad.dim() != 0) CheckShape(grad_arg, {logits.sym_size(0)}, "[T]");
  CheckSameDevice(grad_arg, logits_arg);
  CheckDtype(norm_arg, at::kDouble);
  CheckShape(norm_arg, {2}, "[2]");
  CheckSameDevice(norm_arg, logits_arg);
}

at::Tensor Backward(const at::Tensor& grad, const at::Tensor& logits, const at::Tensor& target,
                    const OptionalTensor& weight, const at::Tensor& logsumexp,
                    const at::Tensor& norm, int64_t ignore_index, double label_smoothing,
                    double softcap, double lse_square_scale) {
  Check(logits, target, weight, label_smoothing, softcap, lse_square_scale);
  CheckBackward(grad, logits, logsumexp, norm);
  const Terms terms =
      MakeTerms(logits, target, weight, ignore_index, label_smoothing, softcap, lse_square_scale);
  at::Tensor dlogits = at::empty(logits.sizes(), logits.options());
  MixedLogitsGrad(WithUnitStride(logits), logsumexp.contiguous(), terms.target,
                  CoefficientsOf(terms, grad, logsumexp, norm, ComputeDtype(logits)), terms.options,
                  dlogits);
  return dlogits;
}

at::Tensor BackwardMeta(const at::Tensor& grad, const at::Tensor& logits, const at::Tensor& target,
                        const OptionalTensor& weight, const at::Tensor& logsumexp,
                        const at::Tensor& norm, int64_t, double label_smoothing, double softcap,
                        double lse_square_scale) {
  Check(logits, target, weight, label_smoothing, softcap, lse_square_scale);
  CheckBackward(grad, logits, logsumexp, norm);
  return at::empty_symint(logits.sym_sizes(), logits.options());
}

Public FirstFive(const ForwardResult& out) {
  return {std::get<0>(out), std::get<1>(out), std::get<2>(out), std::get<3>(out), std::get<4>(out)};
}

Public AndGradInPlace(at::Tensor& logits, const at::Tensor& target, const OptionalTensor& weight,
                      c10::string_view reduction, double scale, int64_t ignore_index,
                      double label_smoothing, double softcap, double lse_square_scale,
                      bool token_stats) {
  Check(logits, target, weight, label_smoothing, softcap, lse_square_scale);
  CheckContiguous({kOp, "logits", logits});
  const Reduction kind = Parse(reduction);
  RecordPath(Op::kCrossEntropy, PathOf(logits));
  const Terms terms =
      MakeTerms(logits, target, weight, ignore_index, label_smoothing, softcap, lse_square_scale);
  const ForwardResult out = Run(logits, terms, kind, scale, token_stats);
  const at::Tensor &logsumexp = std::get<5>(out), &norm = std::get<6>(out);
  const at::Tensor one = at::ones({}, logsumexp.options());
  MixedLogitsGrad(logits, logsumexp, terms.target,
                  CoefficientsOf(terms, one, logsumexp, norm, ComputeDtype(logits)), terms.options,
                  logits);
  return FirstFive(out);
}

Public AndGradInPlaceMeta(at::Tensor& logits, const at::Tensor& target,
                          const OptionalTensor& weight, c10::string_view reduction, double scale,
                          int64_t ignore_index, double label_smoothing, double softcap,
                          double lse_square_scale, bool token_stats) {
  return FirstFive(ForwardMeta(logits, target, weight, reduction, scale, ignore_index,
                               label_smoothing, softcap, lse_square_scale, token_stats));
}

template <typename... Args>
ForwardResult CallForward(const Args&... args) {
  static const auto op = FindOp<decltype(Forward)>("liger::cross_entropy_with_options_forward");
  return op.call(args...);
}

Public WithoutAutograd(const at::Tensor& logits, const at::Tensor& target,
                       const OptionalTensor& weight, c10::string_view reduction, double scale,
                       int64_t ignore_index, double label_smoothing, double softcap,
                       double lse_square_scale, bool token_stats) {
  return FirstFive(CallForward(logits, target, weight, reduction, scale, ignore_index,
                               label_smoothing, softcap, lse_square_scale, token_stats));
}

class Function : public torch::autograd::Function<Function> {
 public:
  static torch::autograd::variable_list forward(
      torch::autograd::AutogradContext* ctx, const at::Tensor& logits, const at::Tensor& target,
      const OptionalTensor& weight, c10::string_view reduction, double scale, int64_t ignore_index,
      double label_smoothing, double softcap, double lse_square_scale, bool token_stats) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [loss, z_loss, lse, entropy, argmax, logsumexp, norm] =
        CallForward(logits, target, weight, reduction, scale, ignore_index, label_smoothing,
                    softcap, lse_square_scale, token_stats);
    ctx->save_for_backward({logits, target, weight.value_or(at::Tensor()), logsumexp, norm});
    ctx->saved_data["ignore_index"] = ignore_index;
    ctx->saved_data["label_smoothing"] = label_smoothing;
    ctx->saved_data["softcap"] = softcap;
    ctx->saved_data["lse_square_scale"] = lse_square_scale;
    ctx->mark_non_differentiable({z_loss, lse, entropy, argmax});
    return {loss, z_loss, lse, entropy, argmax};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    CheckFirstDerivative(kOp);
    static const auto op = FindOp<decltype(Backward)>("liger::cross_entropy_with_options_backward");
    const auto saved = ctx->get_saved_variables();
    const auto number = [&](const char* name) { return ctx->saved_data[name].toDouble(); };
    const OptionalTensor weight = saved[2].defined() ? OptionalTensor(saved[2]) : std::nullopt;
    torch::autograd::variable_list out(10);
    out[0] = op.call(grads[0], saved[0], saved[1], weight, saved[3], saved[4],
                     ctx->saved_data["ignore_index"].toInt(), number("label_smoothing"),
                     number("softcap"), number("lse_square_scale"));
    return out;
  }
};

Public WithAutograd(const at::Tensor& logits, const at::Tensor& target,
                    const OptionalTensor& weight, c10::string_view reduction, double scale,
                    int64_t ignore_index, double label_smoothing, double softcap,
                    double lse_square_scale, bool token_stats) {
  const auto out = Function::apply(logits, target, weight, reduction, scale, ignore_index,
                                   label_smoothing, softcap, lse_square_scale, token_stats);
  return {out[0], out[1], out[2], out[3], out[4]};
}

TORCH_LIBRARY_FRAGMENT(liger, m) {
  m.def(
      "cross_entropy_with_options(Tensor logits, Tensor target, Tensor? class_weight=None, "
      "str reduction='mean', float scale=1.0, int ignore_index=-100, float label_smoothing=0.0, "
      "float softcap=0.0, float lse_square_scale=0.0, bool token_stats=False) -> (Tensor loss, "
      "Tensor z_loss, Tensor logsumexp, Tensor entropy, Tensor argmax)",
      {at::Tag::pt2_compliant_tag});
  m.def(
      "cross_entropy_with_options_forward(Tensor logits, Tensor target, Tensor? class_weight, "
      "str reduction, float scale, int ignore_index, float label_smoothing, float softcap, "
      "float lse_square_scale, bool token_stats) -> (Tensor loss, Tensor z_loss, "
      "Tensor logsumexp, Tensor entropy, Tensor argmax, Tensor saved_logsumexp, Tensor norm)");
  m.def(
      "cross_entropy_with_options_backward(Tensor grad, Tensor logits, Tensor target, "
      "Tensor? class_weight, Tensor logsumexp, Tensor norm, int ignore_index, "
      "float label_smoothing, float softcap, float lse_square_scale) -> Tensor");
  m.def(
      "cross_entropy_with_options_and_grad_(Tensor(a!) logits, Tensor target, "
      "Tensor? class_weight=None, str reduction='mean', float scale=1.0, int ignore_index=-100, "
      "float label_smoothing=0.0, float softcap=0.0, float lse_square_scale=0.0, "
      "bool token_stats=False) -> (Tensor loss, Tensor z_loss, Tensor logsumexp, "
      "Tensor entropy, Tensor argmax)");
}
TORCH_LIBRARY_IMPL(liger, CompositeExplicitAutograd, m) {
  m.impl("cross_entropy_with_options", WithoutAutograd);
  m.impl("cross_entropy_with_options_forward", Forward);
  m.impl("cross_entropy_with_options_backward", Backward);
  m.impl("cross_entropy_with_options_and_grad_", AndGradInPlace);
}
TORCH_LIBRARY_IMPL(liger, Autograd, m) { m.impl("cross_entropy_with_options", WithAutograd); }
TORCH_LIBRARY_IMPL(liger, Meta, m) {
  m.impl("cross_entropy_with_options_forward", ForwardMeta);
  m.impl("cross_entropy_with_options_backward", BackwardMeta);
  m.impl("cross_entropy_with_options_and_grad_", AndGradInPlaceMeta);
}

CrossEntropyOutput Output(const Public& out, bool token_stats) {
  const auto& [loss, z_loss, logsumexp, entropy, argmax] = out;
  CrossEntropyOutput result{.loss = loss, .z_loss = z_loss, .logsumexp_T = logsumexp};
  if (!token_stats) return result;
  result.entropy_T = entropy;
  result.argmax_T = argmax;
  return result;
}

}  // namespace

CrossEntropyOutput CrossEntropyWithOptions(const at::Tensor& logits, const at::Tensor& target,
                                           const CrossEntropyOptions& o) {
  static const auto op = FindOp<decltype(WithoutAutograd)>("liger::cross_entropy_with_options");
  return Output(
      op.call(logits, target, o.class_weight_V, ReductionName(o.reduction), o.scale, o.ignore_index,
              o.label_smoothing, o.softcap, o.lse_square_scale, o.token_stats),
      o.token_stats);
}

CrossEntropyOutput CrossEntropyWithOptionsAndGradInPlace(at::Tensor& logits,
                                                         const at::Tensor& target,
                                                         const CrossEntropyOptions& o) {
  static const auto op =
      FindOp<decltype(AndGradInPlace)>("liger::cross_entropy_with_options_and_grad_");
  return Output(
      op.call(logits, target, o.class_weight_V, ReductionName(o.reduction), o.scale, o.ignore_index,
              o.label_smoothing, o.softcap, o.lse_square_scale, o.token_stats),
      o.token_stats);
}

}  // namespace liger::kernels
