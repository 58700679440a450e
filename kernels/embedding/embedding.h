#ifndef LIGER_KERNELS_EMBEDDING_EMBEDDING_H_
#define LIGER_KERNELS_EMBEDDING_EMBEDDING_H_

#include <ATen/core/Tensor.h>

#include <optional>

namespace liger::kernels {

// Rows of a table: y[..., h] = weight[ids[...], h]. Differentiable in weight, whose gradient is
// dense: dweight[v] = sum of dy over the positions with ids = v, in float32 and in the order of
// the positions, rounded once; zero for `padding_idx`. Equal runs give equal bits. Dispatcher op
// `liger::embedding`.
//   ids_x     [...], int64
//   weight_VH [V, H], float32, bfloat16, float16 or float64
// Returns [..., H] in weight's dtype, contiguous. Saves ids.
// Backward on a GPU writes each row of dweight once. Up to 32768 ids it takes 4 bytes an id and 8 a
// row of the table as scratch, beyond that V + 1 offsets and a stable sort of the ids (PyTorch's).
// Arguments that are not contiguous are copied, their gradients too.
// Throws c10::Error that names the argument and its shape: ids not int64, weight not [V, H], mixed
// devices, padding_idx outside [0, V). An id outside [0, V) throws on the CPU; on a GPU its row of
// y is NaN, nothing is read for it, and it adds to no gradient.
at::Tensor Embedding(const at::Tensor& ids_x, const at::Tensor& weight_VH,
                     std::optional<int64_t> padding_idx = std::nullopt);

namespace baseline {
// torch.nn.functional.embedding.
at::Tensor Embedding(const at::Tensor& ids_x, const at::Tensor& weight_VH,
                     std::optional<int64_t> padding_idx = std::nullopt);
}  // namespace baseline

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_EMBEDDING_EMBEDDING_H_
