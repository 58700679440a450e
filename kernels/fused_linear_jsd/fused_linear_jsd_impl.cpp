#include "kernels/fused_linear_jsd/fused_linear_jsd_impl.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "kernels/common/check.h"
#include "kernels/common/cpu.h"
#include "kernels/common/linear_head.h"
#include "kernels/common/path_of.h"
#include "kernels/fused_linear_jsd/jsd_logits.h"
#include "kernels/linear/linear.h"

namespace liger::kernels::fljsd {
namespace {

constexpr char kOp[] = "fused_linear_jsd";

void Check(const at::Tensor& student_hidden, const at::Tensor& student_weight,
           const at::Tensor& teacher_hidden, const at::Tensor& teacher_weight,
           const OptionalTensor& label, double beta, double temperature) {
  const Arg hidden{kOp, "student_hidden", student_hidden};
  const Arg weight{kOp, "student_weight", student_weight};
  const Arg teacher{kOp, "teacher_hidden", teacher_hidden};
  const Arg teacher_head{kOp, "teacher_weight", teacher_weight};
  CheckFloating(hidden);
  for (const Arg& arg : {hidden, weight, teacher, teacher_head}) {
    CheckDim(arg, 2);
    CheckSameDtype(arg, hidden);
    CheckSameDevice(arg, hidden);
  }
  CheckShape(weight, {student_weight.sym_size(0), student_hidden.sym_size(1)}, "[V, H]");
  CheckShape(teacher, {student_hidden.sym_size(0), teacher_hidden.sym_size(1)}, "[T, K]");
  CheckShape(teacher_head, {student_weight.sym_size(0), teacher_hidden.sym_size(1)}, "[V, K]");
  if (label.has_value()) {
    const Arg label_arg{kOp, "label", *label};
    CheckDtype(label_arg, at::kLong);
    CheckSameDevice(label_arg, hidden);
    CheckShape(label_arg, {student_hidden.sym_size(0)}, "[T]");
  }
  TORCH_CHECK_VALUE(beta >= 0 && beta <= 1, kOp, ": beta is ", beta,
                    ", expected a value in [0, 1]");
  TORCH_CHECK_VALUE(temperature > 0, kOp, ": temperature is ", temperature,
                    ", expected a positive number");
}

at::Tensor None(const at::Tensor& like) { return at::empty({0}, like.options()); }

c10::TensorOptions Compute(const at::Tensor& hidden) {
  return hidden.options().dtype(ComputeDtype(hidden));
}

// Until backward multiplies it with the upstream one: rounded once on a GPU.
at::ScalarType KeptDtype(const at::Tensor& hidden) {
  return hidden.device().is_cuda() ? ComputeDtype(hidden) : hidden.scalar_type();
}

}  // namespace

ForwardResult Forward(const at::Tensor& student_hidden, const at::Tensor& student_weight,
                      const at::Tensor& teacher_hidden, const at::Tensor& teacher_weight_in,
                      const OptionalTensor& label, double beta, double temperature,
                      int64_t ignore_index, bool need_hidden, bool need_weight) {
  Check(student_hidden, student_weight, teacher_hidden, teacher_weight_in, label, beta,
        temperature);
  RecordPath(Op::kFusedLinearJsd, PathOf(student_hidden));
  const OptionalTensor valid =
      label.has_value() ? OptionalTensor(*label != ignore_index) : std::nullopt;
  const LinearHead head(student_hidden, student_weight, valid);
  const at::Tensor teacher_MK = head.ToValidTokens(teacher_hidden.contiguous());
  const at::Tensor teacher_weight = teacher_weight_in.contiguous();
  const int64_t M = head.num_valid();
  const double scale = 1.0 / static_cast<double>(std::max<int64_t>(1, M));
  OptionalTensor grad_weight;
  if (need_weight) grad_weight = at::zeros(student_weight.sizes(), Compute(student_hidden));
  LinearHeadGradients gradients(head, need_hidden, grad_weight, std::nullopt, scale,
                                KeptDtype(student_hidden));
  const at::Tensor row_loss = at::empty({M}, student_hidden.options().dtype(at::kDouble));
  at::Tensor buffer;
  head.ForEachChunk([&](int64_t begin, at::Tensor& logits, const at::Tensor&) {
    const int64_t C = logits.size(0);
    if (!buffer.defined()) buffer = at::empty(logits.sizes(), logits.options());
    at::Tensor teacher_logits = buffer.narrow(0, 0, C);
    gemm::XWtOut(teacher_MK.narrow(0, begin, C), teacher_weight, teacher_logits);
    at::Tensor dz = JsdOfLogits(logits, teacher_logits, beta, temperature, gradients.any(),
                                row_loss.narrow(0, begin, C));
    if (gradients.any()) gradients.AddGradient(begin, logits, dz);
  });
  return {(row_loss.sum() * scale).to(ComputeDtype(student_hidden)), gradients.grad_hidden_TH(),
          grad_weight.value_or(None(student_hidden))};
}

ForwardResult ForwardMeta(const at::Tensor& student_hidden, const at::Tensor& student_weight,
                          const at::Tensor& teacher_hidden, const at::Tensor& teacher_weight,
                          const OptionalTensor& label, double beta, double temperature, int64_t,
                          bool need_hidden, bool need_weight) {
  Check(student_hidden, student_weight, teacher_hidden, teacher_weight, label, beta, temperature);
  const auto kept = student_hidden.options().dtype(KeptDtype(student_hidden));
  return {at::empty({}, Compute(student_hidden)),
          need_hidden ? at::empty_symint(student_hidden.sym_sizes(), kept) : None(student_hidden),
          need_weight ? at::empty_symint(student_weight.sym_sizes(), Compute(student_hidden))
                      : None(student_hidden)};
}

}  // namespace liger::kernels::fljsd
