#ifndef LIGER_WORKER_TRAINER_OPTIM_GRADIENTS_H_
#define LIGER_WORKER_TRAINER_OPTIM_GRADIENTS_H_

#include <ATen/core/Tensor.h>

#include <vector>

namespace liger::trainer {

// L2 norm over all gradients taken as one vector; undefined ones count as
// zero. Sums in double and in a fixed order, so that the result does not
// depend on the number of threads. Not finite when any gradient is not.
double GlobalGradientNorm(const std::vector<at::Tensor>& grads);

// The factor that brings a gradient of norm `norm` to at most `max_norm`:
// min(1, max_norm / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_.
// max_norm 0 switches clipping off.
double ClipFactor(double norm, double max_norm);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OPTIM_GRADIENTS_H_
