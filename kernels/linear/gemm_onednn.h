#ifndef LIGER_KERNELS_LINEAR_GEMM_ONEDNN_H_
#define LIGER_KERNELS_LINEAR_GEMM_ONEDNN_H_

#include <ATen/core/Tensor.h>

namespace liger::kernels::gemm {

// x_TK w_NK^T by oneDNN, float32 on the CPU, any strides. libtorch exports no dnnl symbol;
// this is its op mkldnn::_linear_pointwise, whose transposed views cost a copy at most.
at::Tensor OneDnnXWt(const at::Tensor& x_TK, const at::Tensor& w_NK);

// Whether this libtorch was built with oneDNN.
bool HasOneDnn();

}  // namespace liger::kernels::gemm

#endif  // LIGER_KERNELS_LINEAR_GEMM_ONEDNN_H_
