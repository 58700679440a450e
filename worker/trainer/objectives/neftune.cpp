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
  const at::Tensor most_T = alpha / (length_T * D).to(at::kFloat).sqrt();
  at::Tensor noise_TD = at::empty({T, D}, embedding_VD.options().requires_grad(false));
  noise_TD.uniform_(-1, 1);
  return noise_TD.mul_(most_T.unsqueeze(1));
}

}  // namespace liger::trainer
