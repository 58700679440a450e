#include <ATen/ATen.h>

#include "kernels/common/record.h"
#include "kernels/cross_entropy/cross_entropy.h"

namespace liger::kernels::baseline {

at::Tensor CrossEntropy(const at::Tensor& logits, const at::Tensor& target, double scale,
                        int64_t ignore_index) {
  RecordPath(Op::kCrossEntropy, Path::kBaseline);
  const at::Tensor upcast = logits.scalar_type() == at::kDouble ? logits : logits.to(at::kFloat);
  return at::cross_entropy_loss(upcast, target, {}, at::Reduction::Sum, ignore_index) * scale;
}

}  // namespace liger::kernels::baseline
