#include "kernels/swiglu/swiglu_impl.h"

#include <ATen/ATen.h>

#include "kernels/common/cpu.h"
#include "kernels/common/cuda.h"
#include "kernels/swiglu/swiglu_launch.h"
#include "kernels/swiglu/swiglu_rows.h"

namespace liger::kernels {
namespace {

// An exponential an element: worth a thread sooner than a copy is.
constexpr int64_t kGrain = 8192;

at::Tensor ForwardCpu(const at::Tensor& gate_in, const at::Tensor& up_in) {
  const at::Tensor gate = gate_in.contiguous(), up = up_in.contiguous();
  at::Tensor y = at::empty_like(gate);
  DispatchCpuDtype(gate.scalar_type(), [&](auto t) {
    using T = decltype(t);
    const T *pg = Data<T>(gate), *pu = Data<T>(up);
    T* py = MutableData<T>(y);
    at::parallel_for(0, gate.numel(), kGrain, [&](int64_t begin, int64_t end) {
      SwigluSpan(pg + begin, pu + begin, end - begin, py + begin);
    });
  });
  return y;
}

std::tuple<at::Tensor, at::Tensor> BackwardCpu(const at::Tensor& dy_in, const at::Tensor& gate_in,
                                               const at::Tensor& up_in) {
  const at::Tensor dy = dy_in.contiguous(), gate = gate_in.contiguous(), up = up_in.contiguous();
  at::Tensor dgate = at::empty_like(gate), dup = at::empty_like(gate);
  DispatchCpuDtype(gate.scalar_type(), [&](auto t) {
    using T = decltype(t);
    const T *pdy = Data<T>(dy), *pg = Data<T>(gate), *pu = Data<T>(up);
    T *pdg = MutableData<T>(dgate), *pdu = MutableData<T>(dup);
    at::parallel_for(0, gate.numel(), kGrain, [&](int64_t begin, int64_t end) {
      SwigluBackwardSpan(pdy + begin, pg + begin, pu + begin, end - begin, pdg + begin,
                         pdu + begin);
    });
  });
  return {dgate, dup};
}

at::Tensor ForwardCuda(const at::Tensor& gate_in, const at::Tensor& up_in) {
  const cuda::Scope scope(gate_in);
  const at::Tensor gate = gate_in.contiguous(), up = up_in.contiguous();
  at::Tensor y = at::empty(gate.sizes(), gate.options());
  cuda::CheckLaunch("swiglu", cuda::SwigluForward(scope.queue(), cuda::DtypeOf(gate), gate.numel(),
                                                  gate.const_data_ptr(), up.const_data_ptr(),
                                                  y.mutable_data_ptr()));
  return y;
}

std::tuple<at::Tensor, at::Tensor> BackwardCuda(const at::Tensor& dy_in, const at::Tensor& gate_in,
                                                const at::Tensor& up_in) {
  const cuda::Scope scope(gate_in);
  const at::Tensor dy = dy_in.contiguous(), gate = gate_in.contiguous(), up = up_in.contiguous();
  at::Tensor dgate = at::empty(gate.sizes(), gate.options());
  at::Tensor dup = at::empty(gate.sizes(), gate.options());
  cuda::CheckLaunch("swiglu",
                    cuda::SwigluBackward(scope.queue(), cuda::DtypeOf(gate), gate.numel(),
                                         dy.const_data_ptr(), gate.const_data_ptr(),
                                         up.const_data_ptr(), dgate.mutable_data_ptr(),
                                         dup.mutable_data_ptr()));
  return {dgate, dup};
}

}  // namespace

at::Tensor SwigluForward(const at::Tensor& gate, const at::Tensor& up) {
  if (HasCpuLoops(gate)) return ForwardCpu(gate, up);
  if constexpr (kHasCuda) {
    if (HasCudaKernels(gate)) return ForwardCuda(gate, up);
  }
  const auto compute = ComputeDtype(gate);
  return at::silu(gate.to(compute)).mul_(up.to(compute)).to(gate.scalar_type()).contiguous();
}

std::tuple<at::Tensor, at::Tensor> SwigluBackward(const at::Tensor& dy, const at::Tensor& gate,
                                                  const at::Tensor& up) {
  if (HasCpuLoops(gate)) return BackwardCpu(dy, gate, up);
  if constexpr (kHasCuda) {
    if (HasCudaKernels(gate)) return BackwardCuda(dy, gate, up);
  }
  const auto compute = ComputeDtype(gate);
  const at::Tensor g = gate.to(compute), d = dy.to(compute), s = at::sigmoid(g);
  const at::Tensor dgate = d * up.to(compute) * s * (1 + g * (1 - s));
  const at::Tensor dup = d * g * s;
  return {dgate.to(gate.scalar_type()).contiguous(), dup.to(gate.scalar_type()).contiguous()};
}

}  // namespace liger::kernels
