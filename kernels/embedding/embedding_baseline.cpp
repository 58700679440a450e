#include <ATen/ATen.h>

#include "kernels/common/record.h"
#include "kernels/embedding/embedding.h"

namespace liger::kernels::baseline {

at::Tensor Embedding(const at::Tensor& ids, const at::Tensor& weight,
                     std::optional<int64_t> padding_idx) {
  RecordPath(Op::kEmbedding, Path::kBaseline);
  return at::embedding(weight, ids, padding_idx.value_or(-1));
}

}  // namespace liger::kernels::baseline
