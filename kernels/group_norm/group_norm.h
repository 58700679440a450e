#ifndef LIGER_KERNELS_GROUP_NORM_GROUP_NORM_H_
#define LIGER_KERNELS_GROUP_NORM_GROUP_NORM_H_

#include <ATen/core/Tensor.h>

#include <optional>

namespace liger::kernels {

// Group normalisation (Wu & He 2018, arXiv:1803.08494), differentiable in x, weight and bias.
// Dispatcher op `liger::group_norm`. The C channels are split into num_groups groups of C / G
// neighbours; of each sample and group, over its channels and all their elements:
//   mean = mean of x,  rstd = 1 / sqrt(mean((x - mean)^2) + eps)             in float32
//   y    = (x - mean) * rstd * weight[channel] + bias[channel]               rounded once
//   x_NCx      [N, C, ...], float32, bfloat16, float16 or float64
//   weight_C   [C]; the same dtype as x, or float32
//   bias_C     [C], of weight's dtype; or none
// The variance is that of the centred values. Returns x's shape and dtype, contiguous (another
// memory format costs a copy of x).
// Saves x, weight, mean and rstd (two float32 a group, [N, G]) for backward. Memory beyond results
// on a GPU: two float32 for each 8192 elements of x in forward; in backward two for each channel
// of a sample, and for each 1024 elements of it. Gradients are summed in a fixed order: equal runs
// give equal bits.
// Throws c10::Error that names the argument and its shape: x of fewer than two dimensions,
// num_groups that does not divide C, weight or bias not [C], mixed devices, unsupported dtype,
// eps not positive, a dimension of 0 but the first.
at::Tensor GroupNorm(const at::Tensor& x_NCx, int64_t num_groups, const at::Tensor& weight_C,
                     const std::optional<at::Tensor>& bias_C, double eps);

namespace baseline {
// torch.nn.functional.group_norm.
at::Tensor GroupNorm(const at::Tensor& x_NCx, int64_t num_groups, const at::Tensor& weight_C,
                     const std::optional<at::Tensor>& bias_C, double eps);
}  // namespace baseline

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_GROUP_NORM_GROUP_NORM_H_
