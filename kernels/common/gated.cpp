#include "kernels/common/gated.h"

#include <ATen/ATen.h>

#include "kernels/common/check.h"
#include "kernels/common/cpu.h"
#include "kernels/common/cuda.h"
#include "kernels/common/gated_launch.h"
#include "kernels/common/gated_rows.h"

namespace liger::kernels {
namespace {

// An exponential an element: worth a thread sooner than a copy is.
constexpr int64_t kGrain = 8192;

at::Tensor ForwardCpu(Activation activation, const at::Tensor& gate_in, const at::Tensor& up_in) {
  const at::Tensor gate = gate_in.contiguous(), up = up_in.contiguous();
  at::Tensor y = at::empty_like(gate);
  DispatchCpuDtype(gate.scalar_type(), [&](auto t) {
    using T = decltype(t);
    const T *pg = Data<T>(gate), *pu = Data<T>(up);
    T* py = MutableData<T>(y);
    at::parallel_for(0, gate.numel(), kGrain, [&](int64_t begin, int64_t end) {
      GatedSpan(activation, pg + begin, pu + begin, end - begin, py + begin);
    });
  });
  return y;
}

std::tuple<at::Tensor, at::Tensor> BackwardCpu(Activation activation, const at::Tensor& dy_in,
                                               const at::Tensor& gate_in, const at::Tensor& up_in,
                                               at::Tensor* y) {
  const at::Tensor dy = dy_in.contiguous(), gate = gate_in.contiguous(), up = up_in.contiguous();
  at::Tensor dgate = at::empty_like(gate), dup = at::empty_like(gate);
  DispatchCpuDtype(gate.scalar_type(), [&](auto t) {
    using T = decltype(t);
    const T *pdy = Data<T>(dy), *pg = Data<T>(gate), *pu = Data<T>(up);
    T *pdg = MutableData<T>(dgate), *pdu = MutableData<T>(dup);
    T* py = y != nullptr ? const_cast<T*>(pdy) : nullptr;
    at::parallel_for(0, gate.numel(), kGrain, [&](int64_t begin, int64_t end) {
      GatedBackwardSpan(activation, pdy + begin, pg + begin, pu + begin, end - begin, pdg + begin,
                        pdu + begin, py == nullptr ? nullptr : py + begin);
    });
  });
  if (y != nullptr) *y = dy;
  return {dgate, dup};
}

at::Tensor ForwardCuda(const char* op, Activation activation, const at::Tensor& gate_in,
                       const at::Tensor& up_in) {
  const cuda::Scope scope(gate_in);
  const at::Tensor gate = gate_in.contiguous(), up = up_in.contiguous();
  at::Tensor y = at::empty(gate.sizes(), gate.options());
  cuda::CheckLaunch(
      op, cuda::GatedForward(scope.queue(), activation, cuda::DtypeOf(gate), gate.numel(),
                             gate.const_data_ptr(), up.const_data_ptr(), y.mutable_data_ptr()));
  return y;
}

std::tuple<at::Tensor, at::Tensor> BackwardCuda(const char* op, Activation activation,
                                                const at::Tensor& dy_in, const at::Tensor& gate_in,
                                                const at::Tensor& up_in, at::Tensor* y) {
  const cuda::Scope scope(gate_in);
  const at::Tensor dy = dy_in.contiguous(), gate = gate_in.contiguous(), up = up_in.contiguous();
  at::Tensor dgate = at::empty(gate.sizes(), gate.options());
  at::Tensor dup = at::empty(gate.sizes(), gate.options());
  cuda::CheckLaunch(
      op, cuda::GatedBackward(scope.queue(), activation, cuda::DtypeOf(gate), gate.numel(),
                              dy.const_data_ptr(), gate.const_data_ptr(), up.const_data_ptr(),
                              dgate.mutable_data_ptr(), dup.mutable_data_ptr(),
                              y != nullptr ? dy.mutable_data_ptr() : nullptr));
  if (y != nullptr) *y = dy;
  return {dgate, dup};
}

const char* GeluName(Activation activation) {
  return activation == Activation::kGeluTanh ? "tanh" : "none";
}

}  // namespace

void CheckGated(const char* op, const at::Tensor& gate, const at::Tensor& up) {
  const Arg gate_arg{op, "gate", gate}, up_arg{op, "up", up};
  CheckFloating(gate_arg);
  CheckShape(up_arg, gate.sym_sizes(), "gate's shape");
  CheckSameDtype(up_arg, gate_arg);
  CheckSameDevice(up_arg, gate_arg);
}

void CheckGatedBackward(const char* op, const at::Tensor& dy, const at::Tensor& gate,
                        const at::Tensor& up) {
  CheckGated(op, gate, up);
  const Arg gate_arg{op, "gate", gate}, dy_arg{op, "grad", dy};
  CheckShape(dy_arg, gate.sym_sizes(), "gate's shape");
  CheckSameDtype(dy_arg, gate_arg);
  CheckSameDevice(dy_arg, gate_arg);
}

at::Tensor GatedMeta(const at::Tensor& gate) {
  return at::empty_symint(gate.sym_sizes(), gate.options());
}

at::Tensor GatedForward(const char* op, Activation activation, const at::Tensor& gate,
                        const at::Tensor& up) {
  if (HasCpuLoops(gate)) return ForwardCpu(activation, gate, up);
  if constexpr (kHasCuda) {
    if (HasCudaKernels(gate)) return ForwardCuda(op, activation, gate, up);
  }
  const auto compute = ComputeDtype(gate);
  const at::Tensor g = gate.to(compute);
  at::Tensor act =
      activation == Activation::kSilu ? at::silu(g) : at::gelu(g, GeluName(activation));
  return act.mul_(up.to(compute)).to(gate.scalar_type()).contiguous();
}

std::tuple<at::Tensor, at::Tensor> GatedBackward(const char* op, Activation activation,
                                                 const at::Tensor& dy, const at::Tensor& gate,
                                                 const at::Tensor& up, at::Tensor* y) {
  if (HasCpuLoops(gate)) return BackwardCpu(activation, dy, gate, up, y);
  if constexpr (kHasCuda) {
    if (HasCudaKernels(gate)) return BackwardCuda(op, activation, dy, gate, up, y);
  }
  const auto compute = ComputeDtype(gate);
  const at::Tensor g = gate.to(compute), d = dy.to(compute), d_act = d * up.to(compute);
  const bool silu = activation == Activation::kSilu;
  const at::Tensor act = silu ? at::silu(g) : at::gelu(g, GeluName(activation));
  const at::Tensor dgate =
      silu ? at::silu_backward(d_act, g) : at::gelu_backward(d_act, g, GeluName(activation));
  const at::Tensor dup = (d * act).to(gate.scalar_type()).contiguous();
  if (y != nullptr) *y = GatedForward(op, activation, gate, up);
  return {dgate.to(gate.scalar_type()).contiguous(), dup};
}

}  // namespace liger::kernels
