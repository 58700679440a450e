#ifndef LIGER_KERNELS_EMBEDDING_EMBEDDING_IMPL_H_
#define LIGER_KERNELS_EMBEDDING_EMBEDDING_IMPL_H_

#include <ATen/core/Tensor.h>

namespace liger::kernels {

// Bodies of the dispatcher ops after their checks.
at::Tensor EmbeddingForward(const at::Tensor& ids, const at::Tensor& weight);
// Of a table with V rows, in dy's dtype. padding_idx -1: none.
at::Tensor EmbeddingBackward(const at::Tensor& dy, const at::Tensor& ids, int64_t V,
                             int64_t padding_idx);

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_EMBEDDING_EMBEDDING_IMPL_H_
