#ifndef LIGER_KERNELS_DIVERGENCE_DIVERGENCE_IMPL_H_
#define LIGER_KERNELS_DIVERGENCE_DIVERGENCE_IMPL_H_

#include <ATen/core/Tensor.h>

#include <optional>

#include "kernels/divergence/divergence_terms.h"

namespace liger::kernels::divergence {

// Two contiguous [N, V] tensors of one dtype; label [N] contiguous, or none.
struct Inputs {
  Kind kind;
  double parameter;
  const at::Tensor& input;
  const at::Tensor& target;
  const std::optional<at::Tensor>& label;
  int64_t ignore_index;
};

// Writes row sums (float64 [N]) and, where defined, the terms and d term / d input times `scale`
// (a float64 scalar tensor), both [N, V] in the inputs' dtype.
void Run(const Inputs& in, const at::Tensor& row_sums, const at::Tensor& terms,
         const at::Tensor& grad, const at::Tensor& scale);

// `grad` as Run wrote it becomes that times `upstream`, a float64 scalar tensor: as it is where
// that is 1, without asking the GPU, and else computed again, so that it is rounded once.
void Multiply(const Inputs& in, const at::Tensor& grad, const at::Tensor& scale,
              const at::Tensor& upstream);

}  // namespace liger::kernels::divergence

#endif  // LIGER_KERNELS_DIVERGENCE_DIVERGENCE_IMPL_H_
