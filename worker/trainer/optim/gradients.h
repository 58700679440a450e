#ifndef LIGER_WORKER_TRAINER_OPTIM_GRADIENTS_H_
#define LIGER_WORKER_TRAINER_OPTIM_GRADIENTS_H_

#include <ATen/core/Tensor.h>

#include <vector>

namespace liger::trainer {

// L2 norm over all gradients taken as one vector, a float64 number on their device, for which the
// host does not wait; undefined ones count as zero. On a CPU sums in double and in a fixed order,
// so that the result does not depend on the number of threads. Not finite when any gradient is not.
at::Tensor GlobalGradientNorm(const std::vector<at::Tensor>& grads);

// The factor, a float32 number, that brings a gradient of norm `norm` to at most `max_norm`:
// min(1, max_norm / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_. max_norm 0 switches
// clipping off. NaN where `norm` is not finite, with which Optimizer::Step does nothing.
at::Tensor ClipFactor(const at::Tensor& norm, double max_norm);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OPTIM_GRADIENTS_H_
