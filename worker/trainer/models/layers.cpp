#include "worker/trainer/models/layers.h"

#include "kernels/fused_add_rms_norm/fused_add_rms_norm.h"
#include "kernels/kept_results.h"
#include "kernels/linear/linear.h"
#include "worker/trainer/models/gradient_replay.h"

namespace liger::trainer {

at::Tensor LinearProduct(const at::Tensor& x_TI, const at::Tensor& weight_OI,
                         const std::optional<at::Tensor>& bias_O, bool fused) {
  return fused ? kernels::Linear(x_TI, weight_OI, bias_O)
               : kernels::baseline::Linear(x_TI, weight_OI, bias_O);
}

Linear::Linear(int64_t in_features, int64_t out_features, bool has_bias, bool fused,
               const at::TensorOptions& options)
    : fused_(fused) {
  weight = register_parameter("weight", at::empty({out_features, in_features}, options));
  if (has_bias) bias = register_parameter("bias", at::empty({out_features}, options));
}

at::Tensor Linear::forward(const at::Tensor& x_TI) {
  if (!adapter) return Product(x_TI);
  // Which adds to the layer's product in place.
  const kernels::KeptResults::Region kept_nowhere(false);
  return adapter->Forward(*this, x_TI);
}

at::Tensor Linear::ForwardLast(const at::Tensor& x_TI) {
  // On a GPU both products are cuBLAS's, and their gradients too.
  const bool own = fused_ || x_TI.is_cuda();
  if (adapter || !own || !GradientReplay::active()) return forward(x_TI);
  return kernels::LinearForGradients(x_TI, weight, optional_bias());
}

at::Tensor Linear::Product(const at::Tensor& x_TI) const {
  return LinearProduct(x_TI, weight, optional_bias(), fused_);
}

Embedding::Embedding(int64_t num_embeddings, int64_t embedding_dim,
                     std::optional<int64_t> padding_idx, const at::TensorOptions& options)
    : padding_idx_(padding_idx.value_or(-1)) {
  weight = register_parameter("weight", at::empty({num_embeddings, embedding_dim}, options));
}

at::Tensor Embedding::forward(const at::Tensor& ids_T) {
  return at::embedding(weight, ids_T, padding_idx_);
}

RmsNorm::RmsNorm(int64_t size, double eps, bool unit_offset, bool fused,
                 const at::TensorOptions& options)
    : eps_(eps), unit_offset_(unit_offset), fused_(fused) {
  weight = register_parameter("weight", at::empty({size}, options));
}

at::Tensor RmsNorm::forward(const at::Tensor& x_D) {
  return fused_ ? kernels::RmsNorm(x_D, weight, eps_, offset(), casting())
                : kernels::baseline::RmsNorm(x_D, weight, eps_, offset(), casting());
}

std::pair<at::Tensor, at::Tensor> RmsNorm::AddThenNorm(const at::Tensor& x_D,
                                                       const at::Tensor& residual_D) {
  return fused_ ? kernels::FusedAddRmsNorm(x_D, residual_D, weight, eps_, offset(), casting())
                : kernels::baseline::FusedAddRmsNorm(x_D, residual_D, weight, eps_, offset(),
                                                     casting());
}

}  // namespace liger::trainer
