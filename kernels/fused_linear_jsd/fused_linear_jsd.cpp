#include "kernels/fused_linear_jsd/fused_linear_jsd.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "kernels/common/autograd.h"
#include "kernels/common/head_buffers.h"
#include "kernels/fused_linear_jsd/fused_linear_jsd_impl.h"

namespace liger::kernels {
namespace {

using fljsd::OptionalTensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr char kOp[] = "fused_linear_jsd";

using fljsd::Heads;
using fljsd::LossOptions;

// The ops' flat arguments.
template <auto kForward>
fljsd::ForwardResult FlatForward(const at::Tensor& student_hidden, const at::Tensor& student_weight,
                                 const at::Tensor& teacher_hidden, const at::Tensor& teacher_weight,
                                 const OptionalTensor& label, double beta, double temperature,
                                 int64_t ignore_index, const OptionalTensor& student_bias,
                                 const OptionalTensor& teacher_bias, bool need_hidden,
                                 bool need_weight, bool need_bias) {
  return kForward({student_hidden, student_weight, teacher_hidden, teacher_weight, label,
                   student_bias, teacher_bias},
                  {beta, temperature, ignore_index}, need_hidden, need_weight, need_bias);
}

template <auto kAccumulate>
fljsd::AccumulateResult FlatAccumulate(
    const at::Tensor& student_hidden, const at::Tensor& student_weight,
    const at::Tensor& teacher_hidden, const at::Tensor& teacher_weight, const OptionalTensor& label,
    double beta, double temperature, int64_t ignore_index, const OptionalTensor& student_bias,
    const OptionalTensor& teacher_bias, const OptionalTensor& grad_weight,
    const OptionalTensor& grad_bias, bool need_hidden, bool grad_weight_is_new) {
  return kAccumulate({student_hidden, student_weight, teacher_hidden, teacher_weight, label,
                      student_bias, teacher_bias},
                     {beta, temperature, ignore_index}, grad_weight, grad_bias, need_hidden,
                     grad_weight_is_new);
}

fljsd::ForwardResult CallForward(const Heads& h, const LossOptions& o, bool need_hidden,
                                 bool need_weight, bool need_bias) {
  static const auto op =
      FindOp<decltype(FlatForward<fljsd::Forward>)>("liger::fused_linear_jsd_forward");
  return op.call(h.student_hidden_TH, h.student_weight_VH, h.teacher_hidden_TK, h.teacher_weight_VK,
                 h.label_T, o.beta, o.temperature, o.ignore_index, h.student_bias_V,
                 h.teacher_bias_V, need_hidden, need_weight, need_bias);
}

fljsd::AccumulateResult CallAccumulate(const Heads& h, const LossOptions& o,
                                       const OptionalTensor& grad_weight,
                                       const OptionalTensor& grad_bias, bool need_hidden,
                                       bool grad_weight_is_new) {
  static const auto op =
      FindOp<decltype(FlatAccumulate<fljsd::Accumulate>)>("liger::fused_linear_jsd_accumulate_");
  return op.call(h.student_hidden_TH, h.student_weight_VH, h.teacher_hidden_TK, h.teacher_weight_VK,
                 h.label_T, o.beta, o.temperature, o.ignore_index, h.student_bias_V,
                 h.teacher_bias_V, grad_weight, grad_bias, need_hidden, grad_weight_is_new);
}

at::Tensor WithoutAutograd(const at::Tensor& student_hidden, const at::Tensor& student_weight,
                           const at::Tensor& teacher_hidden, const at::Tensor& teacher_weight,
                           const OptionalTensor& label, double beta, double temperature,
                           int64_t ignore_index, const OptionalTensor& student_bias,
                           const OptionalTensor& teacher_bias) {
  return std::get<0>(CallForward({student_hidden, student_weight, teacher_hidden, teacher_weight,
                                  label, student_bias, teacher_bias},
                                 {beta, temperature, ignore_index}, false, false, false));
}

// The teacher is a constant.
Heads WithConstantTeacher(Heads heads) {
  heads.teacher_hidden_TK = heads.teacher_hidden_TK.detach();
  heads.teacher_weight_VK = heads.teacher_weight_VK.detach();
  if (heads.teacher_bias_V.has_value()) heads.teacher_bias_V = heads.teacher_bias_V->detach();
  return heads;
}

class Function : public torch::autograd::Function<Function> {
 public:
  // The student's tensors stand beside `heads` so that autograd sees them. Gradients are off in
  // here, so the caller says which are needed.
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& student_hidden,
                            const at::Tensor& student_weight, const OptionalTensor& student_bias,
                            const Heads& heads, const LossOptions& options, bool need_hidden,
                            bool need_weight, bool need_bias) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [loss, grad_hidden, grad_weight, grad_bias] =
        CallForward(heads, options, need_hidden, need_weight, need_bias);
    ctx->save_for_backward({grad_hidden, grad_weight, grad_bias});
    ctx->saved_data["dtype"] = static_cast<int64_t>(student_hidden.scalar_type());
    ctx->saved_data["need_hidden"] = need_hidden;
    ctx->saved_data["need_weight"] = need_weight;
    ctx->saved_data["need_bias"] = need_bias;
    return loss;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    CheckFirstDerivative(kOp);
    const auto saved = ctx->get_saved_variables();
    const auto dtype = static_cast<at::ScalarType>(ctx->saved_data["dtype"].toInt());
    // Kept in float32 until here: rounded once.
    const auto times = [&](const char* need, size_t i) {
      if (!ctx->saved_data[need].toBool()) return at::Tensor();
      return (saved[i] * grads[0].to(saved[i].scalar_type())).to(dtype);
    };
    variable_list out(8);
    out[0] = times("need_hidden", 0);
    out[1] = times("need_weight", 1);
    out[2] = times("need_bias", 2);
    return out;
  }
};

// The head's gradients go to buffers during forward; the loss stays in the graph through the
// student's tensors, so that a frozen body does not cut it off.
class AccumulateFunction : public torch::autograd::Function<AccumulateFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor&, const at::Tensor&,
                            const OptionalTensor&, const Heads& heads, const LossOptions& options,
                            const OptionalTensor& grad_weight, const OptionalTensor& grad_bias,
                            bool need_hidden, bool grad_weight_is_new) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [loss, grad_hidden] =
        CallAccumulate(heads, options, grad_weight, grad_bias, need_hidden, grad_weight_is_new);
    ctx->save_for_backward({grad_hidden});
    ctx->saved_data["need_hidden"] = need_hidden;
    return loss;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    CheckFirstDerivative(kOp);
    TORCH_CHECK(!grads[0].is_cpu() || grads[0].item<double>() == 1.0, kOp,
                ": the upstream gradient of the loss is ", grads[0].item<double>(),
                ", but grad_weight already holds the head's gradient for 1");
    variable_list out(9);
    if (ctx->saved_data["need_hidden"].toBool()) out[0] = ctx->get_saved_variables()[0];
    return out;
  }
};

at::Tensor WithAutograd(const at::Tensor& student_hidden, const at::Tensor& student_weight,
                        const at::Tensor& teacher_hidden, const at::Tensor& teacher_weight,
                        const OptionalTensor& label, double beta, double temperature,
                        int64_t ignore_index, const OptionalTensor& student_bias,
                        const OptionalTensor& teacher_bias) {
  const Heads heads = WithConstantTeacher({student_hidden, student_weight, teacher_hidden,
                                           teacher_weight, label, student_bias, teacher_bias});
  return Function::apply(student_hidden, student_weight, student_bias, heads,
                         LossOptions{beta, temperature, ignore_index}, NeedsGrad(student_hidden),
                         NeedsGrad(student_weight), NeedsGrad(student_bias));
}

TORCH_LIBRARY_FRAGMENT(liger, m) {
  m.def(
      "fused_linear_jsd(Tensor student_hidden, Tensor student_weight, Tensor teacher_hidden, "
      "Tensor teacher_weight, Tensor? label=None, float beta=0.5, float temperature=1.0, "
      "int ignore_index=-100, Tensor? student_bias=None, Tensor? teacher_bias=None) -> Tensor",
      {at::Tag::pt2_compliant_tag});
  m.def(
      "fused_linear_jsd_forward(Tensor student_hidden, Tensor student_weight, "
      "Tensor teacher_hidden, Tensor teacher_weight, Tensor? label, float beta, "
      "float temperature, int ignore_index, Tensor? student_bias, Tensor? teacher_bias, "
      "bool need_hidden, bool need_weight, bool need_bias) "
      "-> (Tensor loss, Tensor grad_hidden, Tensor grad_weight, Tensor grad_bias)");
  m.def(
      "fused_linear_jsd_accumulate_(Tensor student_hidden, Tensor student_weight, "
      "Tensor teacher_hidden, Tensor teacher_weight, Tensor? label, float beta, "
      "float temperature, int ignore_index, Tensor? student_bias, Tensor? teacher_bias, "
      "Tensor(a!)? grad_weight, Tensor(b!)? grad_bias, bool need_hidden, "
      "bool grad_weight_is_new=False) "
      "-> (Tensor loss, Tensor grad_hidden)");
}
TORCH_LIBRARY_IMPL(liger, CompositeExplicitAutograd, m) {
  m.impl("fused_linear_jsd", WithoutAutograd);
  m.impl("fused_linear_jsd_forward", FlatForward<fljsd::Forward>);
  m.impl("fused_linear_jsd_accumulate_", FlatAccumulate<fljsd::Accumulate>);
}
TORCH_LIBRARY_IMPL(liger, Autograd, m) { m.impl("fused_linear_jsd", WithAutograd); }
TORCH_LIBRARY_IMPL(liger, Meta, m) {
  m.impl("fused_linear_jsd_forward", FlatForward<fljsd::ForwardMeta>);
  m.impl("fused_linear_jsd_accumulate_", FlatAccumulate<fljsd::AccumulateMeta>);
}

}  // namespace

at::Tensor FusedLinearJsd(const at::Tensor& student_hidden, const at::Tensor& student_weight,
                          const at::Tensor& teacher_hidden, const at::Tensor& teacher_weight,
                          const OptionalTensor& label, const FusedLinearJsdOptions& o) {
  if (c10::GradMode::is_enabled() && (o.grad_weight_VH.has_value() || o.grad_bias_V.has_value())) {
    CheckBuffersCoverHead(kOp, student_weight, o.student_bias_V, o.grad_weight_VH, o.grad_bias_V);
    const Heads heads =
        WithConstantTeacher({student_hidden, student_weight, teacher_hidden, teacher_weight, label,
                             o.student_bias_V, o.teacher_bias_V});
    return AccumulateFunction::apply(student_hidden, student_weight, o.student_bias_V, heads,
                                     LossOptions{o.beta, o.temperature, o.ignore_index},
                                     o.grad_weight_VH, o.grad_bias_V, NeedsGrad(student_hidden),
                                     o.grad_weight_is_new);
  }
  static const auto op = FindOp<decltype(WithoutAutograd)>("liger::fused_linear_jsd");
  return op.call(student_hidden, student_weight, teacher_hidden, teacher_weight, label, o.beta,
                 o.temperature, o.ignore_index, o.student_bias_V, o.teacher_bias_V);
}

}  // namespace liger::kernels
