#ifndef LIGER_KERNELS_MATMUL_INT2XINT8_MATMUL_INT2XINT8_LAUNCH_H_
#define LIGER_KERNELS_MATMUL_INT2XINT8_MATMUL_INT2XINT8_LAUNCH_H_

#include "kernels/common/launch.h"

namespace liger::kernels::cuda {

// y [M, N] = x [M, 4 R] times packed [R, N], all contiguous; see matmul_int2xint8.h.
Error MatmulInt2xInt8(const Queue& queue, int64_t M, int64_t R, int64_t N, const int8_t* x,
                      const uint8_t* packed, int32_t* y);

}  // namespace liger::kernels::cuda

#endif  // LIGER_KERNELS_MATMUL_INT2XINT8_MATMUL_INT2XINT8_LAUNCH_H_
