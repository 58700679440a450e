#include <ATen/ATen.h>

#include "kernels/common/record.h"
#include "kernels/matmul_int2xint8/matmul_int2xint8.h"

namespace liger::kernels::baseline {

at::Tensor MatmulInt2xInt8(const at::Tensor& x, const at::Tensor& packed) {
  RecordPath(Op::kMatmulInt2xInt8, Path::kBaseline);
  return at::mm(x.to(at::kDouble), UnpackInt2(packed).to(at::kDouble)).to(at::kInt);
}

}  // namespace liger::kernels::baseline
