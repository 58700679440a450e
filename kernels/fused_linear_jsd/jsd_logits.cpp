#include "kernels/fused_linear_jsd/jsd_logits.h"

#include <ATen/ATen.h>

#include "kernels/common/cpu.h"
#include "kernels/common/cuda.h"
#include "kernels/divergence/divergence_impl.h"
#include "kernels/fused_linear_jsd/jsd_logits_launch.h"

namespace liger::kernels {
namespace {

at::Tensor RunCuda(at::Tensor& student, const at::Tensor& teacher, double beta, double temperature,
                   bool need_grad, const at::Tensor& row_loss) {
  const cuda::Scope scope(student);
  const cuda::JsdLogits logits{.dtype = cuda::DtypeOf(student),
                               .C = student.size(0),
                               .V = student.size(1),
                               .student = student.mutable_data_ptr(),
                               .teacher = teacher.const_data_ptr(),
                               .beta = beta,
                               .temperature = temperature,
                               .write_grad = need_grad};
  cuda::CheckLaunch("fused_linear_jsd",
                    cuda::JsdOfLogits(scope.queue(), logits, MutableData<double>(row_loss)));
  return student;
}

}  // namespace

at::Tensor JsdOfLogits(at::Tensor& student, const at::Tensor& teacher, double beta,
                       double temperature, bool need_grad, const at::Tensor& row_loss) {
  if constexpr (kHasCuda) {
    if (HasCudaKernels(student)) {
      return RunCuda(student, teacher, beta, temperature, need_grad, row_loss);
    }
  }
  const auto log_probs = [&](const at::Tensor& z) {
    return at::log_softmax(z.to(ComputeDtype(z)).div(temperature), 1);
  };
  const at::Tensor log_q = log_probs(student), log_p = log_probs(teacher);
  at::Tensor g = need_grad ? at::empty_like(log_q) : at::Tensor();
  const std::optional<at::Tensor> no_label;
  divergence::Run({divergence::Kind::kJsd, beta, log_q, log_p, no_label, 0}, row_loss, at::Tensor(),
                  g, at::ones({}, row_loss.options()));
  if (!need_grad) return g;
  // Through the softmax and the temperature.
  const at::Tensor sum = g.sum(1, /*keepdim=*/true);
  return g.sub_(log_q.exp().mul_(sum)).div_(temperature);
}

}  // namespace liger::kernels
