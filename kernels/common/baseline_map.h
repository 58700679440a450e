#ifndef LIGER_KERNELS_COMMON_BASELINE_MAP_H_
#define LIGER_KERNELS_COMMON_BASELINE_MAP_H_

#include <ATen/ATen.h>

namespace liger::kernels::baseline {

// A head's logits as the baselines take them on: capped in their own dtype as transformers' Gemma
// 2 does it, in float32 (float64 stays), over the temperature.
inline at::Tensor MapLogits(const at::Tensor& head, double softcap, double temperature) {
  const at::Tensor capped = softcap == 0 ? head : (head / softcap).tanh() * softcap;
  const at::Tensor logits = head.scalar_type() == at::kDouble ? capped : capped.to(at::kFloat);
  return temperature == 1 ? logits : logits / temperature;
}

}  // namespace liger::kernels::baseline

#endif  // LIGER_KERNELS_COMMON_BASELINE_MAP_H_
