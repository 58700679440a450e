#ifndef LIGER_KERNELS_GROUP_NORM_GROUP_NORM_IMPL_H_
#define LIGER_KERNELS_GROUP_NORM_GROUP_NORM_IMPL_H_

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace liger::kernels {

// Bodies of the dispatcher ops after their checks. mean and rstd are [N, G].
using GroupNormForwardResult = std::tuple<at::Tensor, at::Tensor, at::Tensor>;  // y, mean, rstd
// dx, dweight, dbias (weight's dtype). Those that are not needed come back as empty [0] tensors.
using GroupNormBackwardResult = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

struct GroupNormNeeds {
  bool dx, dweight, dbias;
};

// Sizes of x as [N, C, L] and its groups.
struct GroupNormSizes {
  int64_t N, C, G, L;
  int64_t channels() const { return C / G; }      // of a group
  int64_t elements() const { return C / G * L; }  // of a group
  int64_t groups() const { return N * G; }
};
GroupNormSizes GroupNormSizesOf(const at::Tensor& x, int64_t num_groups);

GroupNormForwardResult GroupNormForward(const at::Tensor& x, int64_t num_groups,
                                        const at::Tensor& weight,
                                        const std::optional<at::Tensor>& bias, double eps);
GroupNormBackwardResult GroupNormBackward(const at::Tensor& dy, const at::Tensor& x,
                                          const at::Tensor& weight, const at::Tensor& mean,
                                          const at::Tensor& rstd, GroupNormNeeds needs);

// REQUIRES: kHasCuda, and HasCudaKernels(x).
GroupNormForwardResult GroupNormForwardCuda(const at::Tensor& x, int64_t num_groups,
                                            const at::Tensor& weight,
                                            const std::optional<at::Tensor>& bias, double eps);
GroupNormBackwardResult GroupNormBackwardCuda(const at::Tensor& dy, const at::Tensor& x,
                                              const at::Tensor& weight, const at::Tensor& mean,
                                              const at::Tensor& rstd, GroupNormNeeds needs);

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_GROUP_NORM_GROUP_NORM_IMPL_H_
