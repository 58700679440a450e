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
// (float64 scalar tensor, undefined: 1), both [N, V] in the inputs' dtype.
void Run(const Inputs& in, const at::Tensor& row_sums, const at::Tensor& terms,
         const at::Tensor& grad, const at::Tensor& scale);

// x *= factor, a scalar tensor; rounded once.
void ScaleInPlace(const at::Tensor& x, const at::Tensor& factor);

}  // namespace liger::kernels::divergence

#endif  // LIGER_KERNELS_DIVERGENCE_DIVERGENCE_IMPL_H_
