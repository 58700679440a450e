#include "worker/trainer/objectives/neftune.h"

#include <ATen/ATen.h>

namespace liger::trainer {

at::Tensor NeftuneNoise(const SequenceLayout& sequences, double alpha,
                        const at::Tensor& embedding_VD) {
  const at::NoGradGuard no_grad;
  const int64_t T = sequences.num_tokens(), D = embedding_VD.size(1);
  const at::Tensor lengths_S = sequences.cu_seqlens_S1.diff().to(at::kLong);
  const at::Tensor length_T =
      lengths_S.repeat_interleave(lengths_S, /*dim=*/0, std::optional<int64_t>(T));
  const at::Tensor length_U = sequences.Own(length_T, /*fill=*/1);
  const at::Tensor most_U = alpha / (length_U * D).to(at::kFloat).sqrt();
  at::Tensor noise_UD =
      at::empty({length_U.size(0), D}, embedding_VD.options().requires_grad(false));
  noise_UD.uniform_(-1, 1);
  return noise_UD.mul_(most_U.unsqueeze(1));
}

}  // namespace liger::trainer
