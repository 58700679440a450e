#include "kernels/fused_linear_jsd/fused_linear_jsd_impl.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "kernels/common/check.h"
#include "kernels/common/cpu.h"
#include "kernels/common/head_buffers.h"
#include "kernels/common/head_options.h"
#include "kernels/common/linear_head.h"
#include "kernels/common/path_of.h"
#include "kernels/fused_linear_jsd/jsd_logits.h"

namespace liger::kernels::fljsd {
namespace {

constexpr char kOp[] = "fused_linear_jsd";

void Check(const Heads& heads, const LossOptions& options) {
  const Arg hidden{kOp, "student_hidden", heads.student_hidden_TH};
  const Arg weight{kOp, "student_weight", heads.student_weight_VH};
  const Arg teacher{kOp, "teacher_hidden", heads.teacher_hidden_TK};
  const Arg teacher_head{kOp, "teacher_weight", heads.teacher_weight_VK};
  CheckFloating(hidden);
  for (const Arg& arg : {hidden, weight, teacher, teacher_head}) {
    CheckDim(arg, 2);
    CheckSameDtype(arg, hidden);
    CheckSameDevice(arg, hidden);
  }
  const auto T = hidden.tensor.sym_size(0), V = weight.tensor.sym_size(0);
  CheckShape(weight, {V, hidden.tensor.sym_size(1)}, "[V, H]");
  CheckNotEmpty(weight, 0);
  CheckShape(teacher, {T, teacher.tensor.sym_size(1)}, "[T, K]");
  CheckShape(teacher_head, {V, teacher.tensor.sym_size(1)}, "[V, K]");
  for (const auto& [name, bias] : {std::pair("student_bias", heads.student_bias_V),
                                   std::pair("teacher_bias", heads.teacher_bias_V)}) {
    if (!bias.has_value()) continue;
    const Arg bias_arg{kOp, name, *bias};
    CheckShape(bias_arg, {V}, "[V]");
    CheckSameDtype(bias_arg, hidden);
    CheckSameDevice(bias_arg, hidden);
  }
  if (heads.label_T.has_value()) {
    const Arg label_arg{kOp, "label", *heads.label_T};
    CheckDtype(label_arg, at::kLong);
    CheckSameDevice(label_arg, hidden);
    CheckShape(label_arg, {T}, "[T]");
  }
  TORCH_CHECK_VALUE(options.beta >= 0 && options.beta <= 1, kOp, ": beta is ", options.beta,
                    ", expected a value in [0, 1]");
  CheckHeadMap(kOp, {.temperature = options.temperature});
}

void CheckBuffers(const Heads& heads, const OptionalTensor& grad_weight,
                  const OptionalTensor& grad_bias) {
  CheckHeadBuffer(kOp, "grad_weight", grad_weight, heads.student_hidden_TH,
                  heads.student_weight_VH.sym_sizes(), "[V, H]");
  CheckHeadBuffer(kOp, "grad_bias", grad_bias, heads.student_hidden_TH,
                  heads.student_weight_VH.sym_sizes().slice(0, 1), "[V]");
}

// The student's head's gradients are added into grad_weight and grad_bias where given.
AccumulateResult Run(const Heads& heads, const LossOptions& options,
                     const OptionalTensor& grad_weight, const OptionalTensor& grad_bias,
                     bool need_hidden, at::ScalarType hidden_dtype, bool new_weight) {
  const at::Tensor& hidden = heads.student_hidden_TH;
  RecordPath(Op::kFusedLinearJsd, PathOf(hidden));
  const OptionalTensor valid = heads.label_T.has_value()
                                   ? OptionalTensor(*heads.label_T != options.ignore_index)
                                   : std::nullopt;
  const LinearHead head(hidden, heads.student_weight_VH, heads.student_bias_V, valid);
  const at::Tensor teacher_MK = head.ToValidTokens(heads.teacher_hidden_TK.contiguous());
  const at::Tensor teacher_weight = heads.teacher_weight_VK.contiguous();
  const int64_t M = head.num_valid();
  const double scale = 1.0 / static_cast<double>(std::max<int64_t>(1, M));
  LinearHeadGradients gradients(head, need_hidden, grad_weight, grad_bias, scale, hidden_dtype,
                                new_weight);
  const at::Tensor row_loss = at::empty({M}, hidden.options().dtype(at::kDouble));
  at::Tensor buffer;
  head.ForEachChunk([&](int64_t begin, at::Tensor& logits, const at::Tensor&) {
    const int64_t C = logits.size(0);
    if (!buffer.defined()) buffer = at::empty(logits.sizes(), logits.options());
    at::Tensor teacher_logits = buffer.narrow(0, 0, C);
    HeadLogits(teacher_MK.narrow(0, begin, C), teacher_weight, heads.teacher_bias_V,
               teacher_logits);
    at::Tensor dz = JsdOfLogits(logits, teacher_logits, options.beta, options.temperature,
                                gradients.any(), row_loss.narrow(0, begin, C));
    if (gradients.any()) gradients.AddGradient(begin, logits, dz);
  });
  return {(row_loss.sum() * scale).to(ComputeDtype(hidden)), gradients.grad_hidden_TH()};
}

}  // namespace

ForwardResult Forward(const Heads& heads, const LossOptions& options, bool need_hidden,
                      bool need_weight, bool need_bias) {
  Check(heads, options);
  const at::Tensor& hidden = heads.student_hidden_TH;
  OptionalTensor grad_weight, grad_bias;
  if (need_weight) grad_weight = at::empty(heads.student_weight_VH.sizes(), ComputeOf(hidden));
  if (need_bias) grad_bias = at::zeros(heads.student_bias_V->sizes(), ComputeOf(hidden));
  const auto [loss, grad_hidden] =
      Run(heads, options, grad_weight, grad_bias, need_hidden, ComputeDtype(hidden),
          /*new_weight=*/true);
  return {loss, grad_hidden, grad_weight.value_or(None(hidden)), grad_bias.value_or(None(hidden))};
}

AccumulateResult Accumulate(const Heads& heads, const LossOptions& options,
                            const OptionalTensor& grad_weight, const OptionalTensor& grad_bias,
                            bool need_hidden, bool grad_weight_is_new) {
  Check(heads, options);
  CheckBuffers(heads, grad_weight, grad_bias);
  return Run(heads, options, grad_weight, grad_bias, need_hidden,
             heads.student_hidden_TH.scalar_type(), grad_weight_is_new);
}

ForwardResult ForwardMeta(const Heads& heads, const LossOptions& options, bool need_hidden,
                          bool need_weight, bool need_bias) {
  Check(heads, options);
  const at::Tensor& hidden = heads.student_hidden_TH;
  const auto make = [&](bool need, const OptionalTensor& like, at::ScalarType dtype) {
    return need ? at::empty_symint(like->sym_sizes(), hidden.options().dtype(dtype)) : None(hidden);
  };
  return {at::empty({}, ComputeOf(hidden)), make(need_hidden, hidden, ComputeDtype(hidden)),
          make(need_weight, heads.student_weight_VH, ComputeDtype(hidden)),
          make(need_bias, heads.student_bias_V, ComputeDtype(hidden))};
}

AccumulateResult AccumulateMeta(const Heads& heads, const LossOptions& options,
                                const OptionalTensor& grad_weight, const OptionalTensor& grad_bias,
                                bool need_hidden, bool) {
  Check(heads, options);
  CheckBuffers(heads, grad_weight, grad_bias);
  const at::Tensor& hidden = heads.student_hidden_TH;
  return {at::empty({}, ComputeOf(hidden)),
          need_hidden ? at::empty_symint(hidden.sym_sizes(), hidden.options()) : None(hidden)};
}

}  // namespace liger::kernels::fljsd
