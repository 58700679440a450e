#include "kernels/fused_linear_jsd/fused_linear_jsd.h"

#include <torch/library.h>
#include <torch/torch.h>

#include "kernels/common/autograd.h"
#include "kernels/common/head_buffers.h"
#include "kernels/fused_linear_jsd/fused_linear_jsd_impl.h"

namespace liger::kernels {
namespace {

using fljsd::OptionalTensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr char kOp[] = "fused_linear_jsd";

fljsd::ForwardResult CallForward(const at::Tensor& student_hidden, const at::Tensor& student_weight,
                                 const at::Tensor& teacher_hidden, const at::Tensor& teacher_weight,
                                 const OptionalTensor& label, double beta, double temperature,
                                 int64_t ignore_index, bool need_hidden, bool need_weight) {
  static const auto op = FindOp<decltype(fljsd::Forward)>("liger::fused_linear_jsd_forward");
  return op.call(student_hidden, student_weight, teacher_hidden, teacher_weight, label, beta,
                 temperature, ignore_index, need_hidden, need_weight);
}

at::Tensor WithoutAutograd(const at::Tensor& student_hidden, const at::Tensor& student_weight,
                           const at::Tensor& teacher_hidden, const at::Tensor& teacher_weight,
                           const OptionalTensor& label, double beta, double temperature,
                           int64_t ignore_index) {
  return std::get<0>(CallForward(student_hidden, student_weight, teacher_hidden, teacher_weight,
                                 label, beta, temperature, ignore_index, false, false));
}

class Function : public torch::autograd::Function<Function> {
 public:
  // Gradients are off in here, so the caller says which are needed.
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& student_hidden,
                            const at::Tensor& student_weight, const at::Tensor& teacher_hidden,
                            const at::Tensor& teacher_weight, const OptionalTensor& label,
                            double beta, double temperature, int64_t ignore_index, bool need_hidden,
                            bool need_weight) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [loss, grad_hidden, grad_weight] =
        CallForward(student_hidden, student_weight, teacher_hidden, teacher_weight, label, beta,
                    temperature, ignore_index, need_hidden, need_weight);
    ctx->save_for_backward({grad_hidden, grad_weight});
    ctx->saved_data["dtype"] = static_cast<int64_t>(student_hidden.scalar_type());
    ctx->saved_data["need_hidden"] = need_hidden;
    ctx->saved_data["need_weight"] = need_weight;
    return loss;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    CheckFirstDerivative(kOp);
    const auto saved = ctx->get_saved_variables();
    const auto dtype = static_cast<at::ScalarType>(ctx->saved_data["dtype"].toInt());
    // Kept in float32 until here: rounded once.
    const auto times = [&](const at::Tensor& unit) {
      return (unit * grads[0].to(unit.scalar_type())).to(dtype);
    };
    variable_list out(10);
    if (ctx->saved_data["need_hidden"].toBool()) out[0] = times(saved[0]);
    if (ctx->saved_data["need_weight"].toBool()) out[1] = times(saved[1]);
    return out;
  }
};

at::Tensor WithAutograd(const at::Tensor& student_hidden, const at::Tensor& student_weight,
                        const at::Tensor& teacher_hidden, const at::Tensor& teacher_weight,
                        const OptionalTensor& label, double beta, double temperature,
                        int64_t ignore_index) {
  // The teacher is a constant.
  return Function::apply(student_hidden, student_weight, teacher_hidden.detach(),
                         teacher_weight.detach(), label, beta, temperature, ignore_index,
                         NeedsGrad(student_hidden), NeedsGrad(student_weight));
}

TORCH_LIBRARY_FRAGMENT(liger, m) {
  m.def(
      "fused_linear_jsd(Tensor student_hidden, Tensor student_weight, Tensor teacher_hidden, "
      "Tensor teacher_weight, Tensor? label=None, float beta=0.5, float temperature=1.0, "
      "int ignore_index=-100) -> Tensor",
      {at::Tag::pt2_compliant_tag});
  m.def(
      "fused_linear_jsd_forward(Tensor student_hidden, Tensor student_weight, "
      "Tensor teacher_hidden, Tensor teacher_weight, Tensor? label, float beta, "
      "float temperature, int ignore_index, bool need_hidden, bool need_weight) "
      "-> (Tensor loss, Tensor grad_hidden, Tensor grad_weight)");
}
TORCH_LIBRARY_IMPL(liger, CompositeExplicitAutograd, m) {
  m.impl("fused_linear_jsd", WithoutAutograd);
  m.impl("fused_linear_jsd_forward", fljsd::Forward);
}
TORCH_LIBRARY_IMPL(liger, Autograd, m) { m.impl("fused_linear_jsd", WithAutograd); }
TORCH_LIBRARY_IMPL(liger, Meta, m) { m.impl("fused_linear_jsd_forward", fljsd::ForwardMeta); }

}  // namespace

at::Tensor FusedLinearJsd(const at::Tensor& student_hidden, const at::Tensor& student_weight,
                          const at::Tensor& teacher_hidden, const at::Tensor& teacher_weight,
                          const OptionalTensor& label, const FusedLinearJsdOptions& o) {
  static const auto op = FindOp<decltype(WithoutAutograd)>("liger::fused_linear_jsd");
  return op.call(student_hidden, student_weight, teacher_hidden, teacher_weight, label, o.beta,
                 o.temperature, o.ignore_index);
}

}  // namespace liger::kernels
