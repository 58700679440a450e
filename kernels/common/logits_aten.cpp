#include "kernels/common/logits_aten.h"

#include <ATen/ATen.h>

#include <limits>

namespace liger::kernels::aten {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

at::Tensor IsOutside(const at::Tensor& target, int64_t V) {
  return target.lt(0).logical_or_(target.ge(V));
}

// As indices that exist.
at::Tensor Indices(const at::Tensor& target, int64_t V) {
  return target.clamp(0, V - 1).unsqueeze(1);
}

}  // namespace

RowLogSumExp LogSumExp(const at::Tensor& z) {
  at::Tensor base = z.amax(1, /*keepdim=*/true);
  base.masked_fill_(at::isneginf(base), 0);
  const at::Tensor total = (z - base).exp_().sum(1, /*keepdim=*/false, at::kDouble);
  return {base.squeeze(1).to(at::kDouble), total.log()};
}

at::Tensor AtTarget(const at::Tensor& z, const at::Tensor& target) {
  const int64_t V = z.size(1);
  return z.gather(1, Indices(target, V)).squeeze(1).masked_fill_(IsOutside(target, V), kNan);
}

void SubtractAtTarget(const at::Tensor& dz, const at::Tensor& target, const at::Tensor& amount) {
  const int64_t V = dz.size(1);
  const at::Tensor minus = amount.neg().masked_fill_(IsOutside(target, V), 0);
  dz.scatter_add_(1, Indices(target, V), minus.unsqueeze(1));
}

at::Tensor Entropy(const at::Tensor& logp) {
  const at::Tensor p = logp.exp();
  // Not where p > 0: a NaN must stay.
  return -(p * logp).masked_fill_(p == 0, 0).sum(1);
}

}  // namespace liger::kernels::aten
