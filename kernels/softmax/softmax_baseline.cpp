#include <ATen/ATen.h>

#include "kernels/common/record.h"
#include "kernels/softmax/softmax.h"

namespace liger::kernels::baseline {

at::Tensor Softmax(const at::Tensor& x) {
  RecordPath(Op::kSoftmax, Path::kBaseline);
  return at::softmax(x, -1);
}

}  // namespace liger::kernels::baseline
