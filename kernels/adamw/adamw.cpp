#include "kernels/adamw/adamw.h"

#include <ATen/ATen.h>

#include <cstring>

#include "kernels/adamw/adamw_launch.h"
#include "kernels/common/cuda.h"

namespace liger::kernels {
namespace {

void Check(const char* name, const at::Tensor& t, const at::Tensor& param) {
  TORCH_CHECK_VALUE(HasCudaKernels(t) && t.device() == param.device() && t.is_contiguous() &&
                        t.sizes() == param.sizes(),
                    "adamw: ", name, " of shape ", t.sizes(), ", ", t.scalar_type(), " on ",
                    t.device(), " does not fit the parameter of shape ", param.sizes(), " on ",
                    param.device(), ": expected the same shape and device, contiguous, float32, ",
                    "float16 or bfloat16");
}

cuda::AdamWTensor Describe(const AdamWParameter& p, int64_t first_chunk) {
  Check("param", p.param, p.param);
  Check("grad", p.grad, p.param);
  Check("exp_avg", p.exp_avg, p.param);
  Check("exp_avg_sq", p.exp_avg_sq, p.param);
  TORCH_CHECK_VALUE(p.exp_avg.scalar_type() == p.exp_avg_sq.scalar_type(),
                    "adamw: exp_avg is ", p.exp_avg.scalar_type(), " and exp_avg_sq ",
                    p.exp_avg_sq.scalar_type(), ", expected one dtype");
  if (p.compute.defined()) Check("compute", p.compute, p.param);
  return {.param = p.param.mutable_data_ptr(),
          .compute = p.compute.defined() ? p.compute.mutable_data_ptr() : nullptr,
          .grad = p.grad.const_data_ptr(),
          .exp_avg = p.exp_avg.mutable_data_ptr(),
          .exp_avg_sq = p.exp_avg_sq.mutable_data_ptr(),
          .n = p.param.numel(),
          .first_chunk = first_chunk,
          .stream = p.stream,
          .decay = p.decay,
          .param_dtype = cuda::DtypeOf(p.param),
          .compute_dtype = p.compute.defined() ? cuda::DtypeOf(p.compute) : cuda::Dtype::kFloat,
          .grad_dtype = cuda::DtypeOf(p.grad),
          .state_dtype = cuda::DtypeOf(p.exp_avg)};
}

}  // namespace

bool HasAdamWStep(c10::Device device) { return HasCudaKernels(device, at::kFloat); }

void AdamWStep(const std::vector<AdamWParameter>& parameters, const AdamWStepScalars& scalars,
               bool stochastic) {
  if (parameters.empty()) return;
  TORCH_CHECK(HasAdamWStep(parameters[0].param.device()), "adamw: no kernel for parameters on ",
              parameters[0].param.device());
  if constexpr (kHasCuda) {
    const cuda::Scope scope(parameters[0].param);
    at::Tensor table = at::empty(
        {static_cast<int64_t>(parameters.size() * sizeof(cuda::AdamWTensor))}, at::kByte);
    auto* entries = static_cast<cuda::AdamWTensor*>(table.mutable_data_ptr());
    int64_t chunks = 0;
    for (size_t i = 0; i < parameters.size(); ++i) {
      const cuda::AdamWTensor entry = Describe(parameters[i], chunks);
      std::memcpy(entries + i, &entry, sizeof(entry));
      chunks += (entry.n + cuda::kAdamWChunk - 1) / cuda::kAdamWChunk;
    }
    const at::Tensor on_device = table.to(parameters[0].param.device(), /*non_blocking=*/true);
    cuda::CheckLaunch("adamw",
                      cuda::AdamWStep(scope.queue(),
                                      static_cast<const cuda::AdamWTensor*>(
                                          on_device.const_data_ptr()),
                                      static_cast<int>(parameters.size()), chunks,
                                      {.one_minus_beta1 = scalars.one_minus_beta1,
                                       .beta2 = scalars.beta2,
                                       .one_minus_beta2 = scalars.one_minus_beta2,
                                       .epsilon = scalars.epsilon,
                                       .step_size = scalars.step_size,
                                       .inv_sqrt_bias2 = scalars.inv_sqrt_bias2,
                                       .grad_scale = scalars.grad_scale,
                                       .stochastic = stochastic}));
  }
}

}  // namespace liger::kernels
