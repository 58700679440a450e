#include "kernels/softmax/softmax_impl.h"

#include <ATen/ATen.h>

#include <vector>

#include "kernels/common/cpu.h"
#include "kernels/common/cuda.h"
#include "kernels/softmax/softmax_launch.h"
#include "kernels/softmax/softmax_rows.h"

namespace liger::kernels {
namespace {

constexpr char kOp[] = "softmax";

int64_t RowsOf(const at::Tensor& x) { return x.size(-1) == 0 ? 0 : x.numel() / x.size(-1); }

at::Tensor ForwardCpu(const at::Tensor& x_in) {
  const at::Tensor x = x_in.contiguous();
  at::Tensor y = at::empty(x.sizes(), x.options());
  const int64_t H = x.size(-1);
  DispatchCpuDtype(x.scalar_type(), [&](auto t) {
    using T = decltype(t);
    const T* px = Data<T>(x);
    T* py = MutableData<T>(y);
    at::parallel_for(0, RowsOf(x), RowGrain(H), [&](int64_t begin, int64_t end) {
      std::vector<float> scratch(static_cast<size_t>(H));
      for (int64_t r = begin; r < end; ++r) SoftmaxRow(px + r * H, H, scratch.data(), py + r * H);
    });
  });
  return y;
}

at::Tensor BackwardCpu(const at::Tensor& dy_in, const at::Tensor& y_in) {
  const at::Tensor dy = dy_in.contiguous(), y = y_in.contiguous();
  at::Tensor dx = at::empty(y.sizes(), y.options());
  const int64_t H = y.size(-1);
  DispatchCpuDtype(y.scalar_type(), [&](auto t) {
    using T = decltype(t);
    const T *pdy = Data<T>(dy), *py = Data<T>(y);
    T* pdx = MutableData<T>(dx);
    at::parallel_for(0, RowsOf(y), RowGrain(H), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        SoftmaxBackwardRow(pdy + r * H, py + r * H, H, pdx + r * H);
      }
    });
  });
  return dx;
}

cuda::RowsShape ShapeOf(const at::Tensor& x) {
  const auto dtype = cuda::DtypeOf(x);
  return {.dtype = dtype, .weight_dtype = dtype, .rows = RowsOf(x), .H = x.size(-1)};
}

at::Tensor ForwardCuda(const at::Tensor& x_in) {
  const cuda::Scope scope(x_in);
  const at::Tensor x = x_in.contiguous();
  at::Tensor y = at::empty(x.sizes(), x.options());
  cuda::CheckLaunch(kOp, cuda::SoftmaxForward(scope.queue(), ShapeOf(x), x.const_data_ptr(),
                                              y.mutable_data_ptr()));
  return y;
}

at::Tensor BackwardCuda(const at::Tensor& dy_in, const at::Tensor& y_in) {
  const cuda::Scope scope(y_in);
  const at::Tensor dy = dy_in.contiguous(), y = y_in.contiguous();
  at::Tensor dx = at::empty(y.sizes(), y.options());
  cuda::CheckLaunch(kOp, cuda::SoftmaxBackward(scope.queue(), ShapeOf(y), dy.const_data_ptr(),
                                               y.const_data_ptr(), dx.mutable_data_ptr()));
  return dx;
}

}  // namespace

at::Tensor SoftmaxForward(const at::Tensor& x) {
  if constexpr (kHasCuda) {
    if (HasCudaKernels(x)) return ForwardCuda(x);
  }
  if (HasCpuLoops(x)) return ForwardCpu(x);
  return at::softmax(x.to(ComputeDtype(x)), -1).to(x.scalar_type()).contiguous();
}

at::Tensor SoftmaxBackward(const at::Tensor& dy, const at::Tensor& y) {
  if constexpr (kHasCuda) {
    if (HasCudaKernels(y)) return BackwardCuda(dy, y);
  }
  if (HasCpuLoops(y)) return BackwardCpu(dy, y);
  const at::Tensor p = y.to(ComputeDtype(y)), g = dy.to(ComputeDtype(y));
  return (p * (g - (g * p).sum(-1, /*keepdim=*/true))).to(y.scalar_type()).contiguous();
}

}  // namespace liger::kernels
