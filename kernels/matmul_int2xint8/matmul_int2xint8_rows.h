#ifndef LIGER_KERNELS_MATMUL_INT2XINT8_MATMUL_INT2XINT8_ROWS_H_
#define LIGER_KERNELS_MATMUL_INT2XINT8_MATMUL_INT2XINT8_ROWS_H_

#include <cstdint>

namespace liger::kernels {

// y[0, n) of one row x [4 R] and n neighbouring columns of packed [R, stride].
void MatmulInt2xInt8Row(const int8_t* x, const uint8_t* packed, int64_t R, int64_t stride,
                        int64_t n, int32_t* y);

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_MATMUL_INT2XINT8_MATMUL_INT2XINT8_ROWS_H_
