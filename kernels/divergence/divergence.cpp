#include "kernels/divergence/divergence.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "kernels/common/autograd.h"
#include "kernels/common/check.h"
#include "kernels/common/cpu.h"
#include "kernels/common/parse_reduction.h"
#include "kernels/common/path_of.h"
#include "kernels/divergence/divergence_impl.h"

namespace liger::kernels {
namespace {

using divergence::Kind;
using OptionalTensor = std::optional<at::Tensor>;
// The loss, and the gradient for an upstream gradient of 1; [0] unless needed.
using ForwardResult = std::tuple<at::Tensor, at::Tensor>;

constexpr struct {
  Op op;
  const char *name, *input, *target;
} kNames[] = {{Op::kKlDiv, "kl_div", "log_q", "target"},
              {Op::kKlDiv, "kl_div", "log_q", "target"},
              {Op::kJsd, "jsd", "log_q", "log_p"},
              {Op::kTvd, "tvd", "p", "q"}};

const auto& NamesOf(Kind kind) { return kNames[static_cast<int>(kind)]; }

// The arguments of all three ops, as the dispatcher's internal op takes them.
struct Call {
  Kind kind;
  double parameter;
  Reduction reduction;
};

Call Check(int64_t kind, double parameter, c10::string_view reduction, const at::Tensor& input,
           const at::Tensor& target, const OptionalTensor& label) {
  TORCH_CHECK(kind >= 0 && kind <= static_cast<int64_t>(Kind::kTvd), "divergence: kind is ", kind);
  const Call call{
      static_cast<Kind>(kind), parameter,
      ParseReduction(kNames[kind].name, reduction,
                     {Reduction::kNone, Reduction::kSum, Reduction::kMean, Reduction::kBatchMean})};
  const auto& names = NamesOf(call.kind);
  const Arg input_arg{names.name, names.input, input}, target_arg{names.name, names.target, target};
  CheckFloating(input_arg);
  CheckDim(input_arg, 2);
  CheckSameDtype(target_arg, input_arg);
  CheckSameDevice(target_arg, input_arg);
  CheckShape(target_arg, input.sym_sizes(), "[N, V]");
  if (label.has_value()) {
    const Arg label_arg{names.name, "label", *label};
    CheckDtype(label_arg, at::kLong);
    CheckSameDevice(label_arg, input_arg);
    CheckShape(label_arg, {input.sym_size(0)}, "[N]");
  }
  if (call.kind == Kind::kKl) {
    TORCH_CHECK_VALUE(parameter >= 0, names.name, ": eps is ", parameter,
                      ", expected 0 or a positive number");
  } else if (call.kind == Kind::kJsd) {
    TORCH_CHECK_VALUE(parameter >= 0 && parameter <= 1, names.name, ": beta is ", parameter,
                      ", expected a value in [0, 1]");
  }
  return call;
}

// One over what the reduction divides by, float64 on the inputs' device.
at::Tensor Norm(const Call& call, const at::Tensor& input, const OptionalTensor& label,
                int64_t ignore_index) {
  const auto wide = input.options().dtype(at::kDouble);
  if (call.reduction == Reduction::kNone || call.reduction == Reduction::kSum) {
    return at::ones({}, wide);
  }
  const auto columns = static_cast<double>(call.reduction == Reduction::kMean ? input.size(1) : 1);
  at::Tensor rows = label.has_value() ? (*label != ignore_index).sum().to(at::kDouble)
                                      : at::full({}, static_cast<double>(input.size(0)), wide);
  return (rows * columns).clamp_min_(1).reciprocal_();
}

ForwardResult Forward(const at::Tensor& input_in, const at::Tensor& target_in,
                      const OptionalTensor& label_in, int64_t kind, double parameter,
                      c10::string_view reduction, int64_t ignore_index, bool need_grad) {
  const Call call = Check(kind, parameter, reduction, input_in, target_in, label_in);
  RecordPath(NamesOf(call.kind).op, PathOf(input_in));
  const at::Tensor input = input_in.contiguous(), target = target_in.contiguous();
  const OptionalTensor label =
      label_in.has_value() ? OptionalTensor(label_in->contiguous()) : std::nullopt;
  const at::Tensor norm = Norm(call, input, label, ignore_index);
  const at::Tensor row_sums = at::empty({input.size(0)}, norm.options());
  const bool per_term = call.reduction == Reduction::kNone;
  const at::Tensor terms = per_term ? at::empty_like(input) : at::Tensor();
  const at::Tensor grad = need_grad ? at::empty_like(input) : at::Tensor();
  divergence::Run({call.kind, parameter, input, target, label, ignore_index}, row_sums, terms, grad,
                  norm);
  return {per_term ? terms : (row_sums.sum() * norm).to(ComputeDtype(input)),
          need_grad ? grad : at::empty({0}, input.options())};
}

ForwardResult ForwardMeta(const at::Tensor& input, const at::Tensor& target,
                          const OptionalTensor& label, int64_t kind, double parameter,
                          c10::string_view reduction, int64_t, bool need_grad) {
  const Call call = Check(kind, parameter, reduction, input, target, label);
  const auto full = [&] { return at::empty_symint(input.sym_sizes(), input.options()); };
  return {call.reduction == Reduction::kNone
              ? full()
              : at::empty({}, input.options().dtype(ComputeDtype(input))),
          need_grad ? full() : at::empty({0}, input.options())};
}

// unit_grad, as Forward returned it, becomes the gradient for the upstream one.
void Backward(at::Tensor& unit_grad, const at::Tensor& upstream, const at::Tensor& input,
              const at::Tensor& target, const OptionalTensor& label_in, int64_t kind,
              double parameter, c10::string_view reduction, int64_t ignore_index) {
  const Call call = Check(kind, parameter, reduction, input, target, label_in);
  const char* op = NamesOf(call.kind).name;
  const Arg unit_arg{op, "unit_grad", unit_grad}, arg{op, "grad", upstream};
  CheckSameDtype(unit_arg, {op, NamesOf(call.kind).input, input});
  CheckShape(unit_arg, input.sym_sizes(), "[N, V]");
  CheckContiguous(unit_arg);
  CheckSameDevice(unit_arg, {op, NamesOf(call.kind).input, input});
  CheckSameDevice(arg, unit_arg);
  if (call.reduction == Reduction::kNone) {
    CheckShape(arg, input.sym_sizes(), "[N, V]");
    unit_grad.mul_(upstream);
    return;
  }
  CheckDim(arg, 0);
  const OptionalTensor label =
      label_in.has_value() ? OptionalTensor(label_in->contiguous()) : std::nullopt;
  const at::Tensor x = input.contiguous(), y = target.contiguous();
  divergence::Multiply({call.kind, parameter, x, y, label, ignore_index}, unit_grad,
                       Norm(call, x, label, ignore_index), upstream.to(at::kDouble));
}

void BackwardMeta(at::Tensor&, const at::Tensor&, const at::Tensor& input, const at::Tensor& target,
                  const OptionalTensor& label, int64_t kind, double parameter,
                  c10::string_view reduction, int64_t) {
  Check(kind, parameter, reduction, input, target, label);
}

ForwardResult CallForward(const at::Tensor& input, const at::Tensor& target,
                          const OptionalTensor& label, int64_t kind, double parameter,
                          c10::string_view reduction, int64_t ignore_index, bool need_grad) {
  static const auto op = FindOp<decltype(Forward)>("liger::divergence_forward");
  return op.call(input, target, label, kind, parameter, reduction, ignore_index, need_grad);
}

class Function : public torch::autograd::Function<Function> {
 public:
  // Gradients are off in here, so the caller says whether one is needed.
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& input,
                            const at::Tensor& target, const OptionalTensor& label, int64_t kind,
                            double parameter, c10::string_view reduction, int64_t ignore_index,
                            bool need_grad) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [loss, unit_grad] =
        CallForward(input, target, label, kind, parameter, reduction, ignore_index, need_grad);
    ctx->save_for_backward({input, target, label.value_or(at::Tensor())});
    if (need_grad) ctx->saved_data["unit_grad"] = unit_grad;
    ctx->saved_data["kind"] = kind;
    ctx->saved_data["parameter"] = parameter;
    ctx->saved_data["reduction"] = std::string(reduction);
    ctx->saved_data["ignore_index"] = ignore_index;
    return loss;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    static const auto op = FindOp<decltype(Backward)>("liger::divergence_backward_");
    auto& data = ctx->saved_data;
    const int64_t kind = data["kind"].toInt(), ignore_index = data["ignore_index"].toInt();
    CheckFirstDerivative(NamesOf(static_cast<Kind>(kind)).name);
    const double parameter = data["parameter"].toDouble();
    const std::string reduction = data["reduction"].toStringRef();
    const auto saved = ctx->get_saved_variables();
    const OptionalTensor label = saved[2].defined() ? OptionalTensor(saved[2]) : std::nullopt;
    torch::autograd::variable_list out(8);
    if (data.count("unit_grad") > 0) {
      // Given away: a second backward over the same graph computes it again.
      out[0] = data["unit_grad"].toTensor();
      data.erase("unit_grad");
    } else {
      out[0] =
          std::get<1>(CallForward(saved[0], saved[1], label, kind, data["parameter"].toDouble(),
                                  reduction, ignore_index, true));
    }
    op.call(out[0], grads[0], saved[0], saved[1], label, kind, parameter, reduction, ignore_index);
    return out;
  }
};

at::Tensor WithoutAutograd(Kind kind, double parameter, const at::Tensor& input,
                           const at::Tensor& target, const OptionalTensor& label,
                           c10::string_view reduction, int64_t ignore_index) {
  return std::get<0>(CallForward(input, target, label, static_cast<int64_t>(kind), parameter,
                                 reduction, ignore_index, false));
}

at::Tensor WithAutograd(Kind kind, double parameter, const at::Tensor& input,
                        const at::Tensor& target, const OptionalTensor& label,
                        c10::string_view reduction, int64_t ignore_index) {
  // The second argument is a constant.
  return Function::apply(input, target.detach(), label, static_cast<int64_t>(kind), parameter,
                         reduction, ignore_index,
                         c10::GradMode::is_enabled() && input.requires_grad());
}

using Apply = decltype(WithoutAutograd);

template <Apply* apply>
at::Tensor KlDivOp(const at::Tensor& log_q, const at::Tensor& target, c10::string_view reduction,
                   bool log_target, double eps) {
  return apply(log_target ? Kind::kKlLog : Kind::kKl, eps, log_q, target, std::nullopt, reduction,
               kIgnoreIndex);
}

template <Apply* apply>
at::Tensor JsdOp(const at::Tensor& log_q, const at::Tensor& log_p, const OptionalTensor& label,
                 double beta, int64_t ignore_index) {
  return apply(Kind::kJsd, beta, log_q, log_p, label, ReductionName(Reduction::kBatchMean),
               ignore_index);
}

template <Apply* apply>
at::Tensor TvdOp(const at::Tensor& p, const at::Tensor& q, const OptionalTensor& label,
                 c10::string_view reduction, int64_t ignore_index) {
  return apply(Kind::kTvd, 0, p, q, label, reduction, ignore_index);
}

TORCH_LIBRARY_FRAGMENT(liger, m) {
  const std::vector<at::Tag> tags = {at::Tag::pt2_compliant_tag};
  m.def(
      "kl_div(Tensor log_q, Tensor target, str reduction='batchmean', bool log_target=False, "
      "float eps=0.0) -> Tensor",
      tags);
  m.def(
      "jsd(Tensor log_q, Tensor log_p, Tensor? label=None, float beta=0.5, int ignore_index=-100) "
      "-> Tensor",
      tags);
  m.def(
      "tvd(Tensor p, Tensor q, Tensor? label=None, str reduction='batchmean', "
      "int ignore_index=-100) -> Tensor",
      tags);
  m.def(
      "divergence_forward(Tensor input, Tensor target, Tensor? label, int kind, float parameter, "
      "str reduction, int ignore_index, bool need_grad) -> (Tensor loss, Tensor unit_grad)");
  m.def(
      "divergence_backward_(Tensor(a!) unit_grad, Tensor grad, Tensor input, Tensor target, "
      "Tensor? label, int kind, float parameter, str reduction, int ignore_index) -> ()");
}
TORCH_LIBRARY_IMPL(liger, CompositeExplicitAutograd, m) {
  m.impl("kl_div", KlDivOp<WithoutAutograd>);
  m.impl("jsd", JsdOp<WithoutAutograd>);
  m.impl("tvd", TvdOp<WithoutAutograd>);
  m.impl("divergence_forward", Forward);
  m.impl("divergence_backward_", Backward);
}
TORCH_LIBRARY_IMPL(liger, Autograd, m) {
  m.impl("kl_div", KlDivOp<WithAutograd>);
  m.impl("jsd", JsdOp<WithAutograd>);
  m.impl("tvd", TvdOp<WithAutograd>);
}
TORCH_LIBRARY_IMPL(liger, Meta, m) {
  m.impl("divergence_forward", ForwardMeta);
  m.impl("divergence_backward_", BackwardMeta);
}

}  // namespace

at::Tensor KlDiv(const at::Tensor& log_q, const at::Tensor& target, const KlDivOptions& o) {
  static const auto op = FindOp<decltype(KlDivOp<WithoutAutograd>)>("liger::kl_div");
  return op.call(log_q, target, ReductionName(o.reduction), o.log_target, o.eps);
}

at::Tensor Jsd(const at::Tensor& log_q, const at::Tensor& log_p, const OptionalTensor& label,
               const JsdOptions& o) {
  static const auto op = FindOp<decltype(JsdOp<WithoutAutograd>)>("liger::jsd");
  return op.call(log_q, log_p, label, o.beta, o.ignore_index);
}

at::Tensor Tvd(const at::Tensor& p, const at::Tensor& q, const OptionalTensor& label,
               const TvdOptions& o) {
  static const auto op = FindOp<decltype(TvdOp<WithoutAutograd>)>("liger::tvd");
  return op.call(p, q, label, ReductionName(o.reduction), o.ignore_index);
}

}  // namespace liger::kernels
