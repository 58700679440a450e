#include "kernels/rms_norm/rms_norm_impl.h"

#include <ATen/ATen.h>

#include <cmath>

#include "kernels/common/check.h"
#include "kernels/common/cpu.h"
#include "kernels/common/cuda.h"

namespace liger::kernels {
namespace {

void CheckWeight(const char* op, const char* x_name, const at::Tensor& x,
                 const at::Tensor& weight) {
  const Arg x_arg{op, x_name, x}, weight_arg{op, "weight", weight};
  CheckFloating(x_arg);
  CheckAtLeastDim(x_arg, 1);
  CheckNotEmpty(x_arg, -1);
  CheckShape(weight_arg, {x.sym_size(-1)}, "[H]");
  CheckSameDtypeOrFloat(weight_arg, x_arg);
  CheckSameDevice(weight_arg, x_arg);
}

}  // namespace

RmsNormCasting ParseRmsNormCasting(const char* op, c10::string_view mode) {
  for (const auto casting :
       {RmsNormCasting::kLlama, RmsNormCasting::kGemma, RmsNormCasting::kNone}) {
    if (mode == RmsNormCastingName(casting)) return casting;
  }
  TORCH_CHECK_VALUE(false, op, ": casting_mode is '", mode,
                    "', expected 'llama', 'gemma' or 'none'");
}

const char* RmsNormCastingName(RmsNormCasting casting) {
  constexpr const char* kNames[] = {"llama", "gemma", "none"};
  return kNames[static_cast<int>(casting)];
}

void CheckRmsNormForward(const char* op, const at::Tensor& x, const at::Tensor& weight,
                         double eps) {
  CheckWeight(op, "x", x, weight);
  TORCH_CHECK_VALUE(std::isfinite(eps) && eps > 0, op, ": eps is ", eps,
                    ", expected a positive number");
}

void CheckRmsNormBackward(const char* op, const char* x_name, const at::Tensor& dy,
                          const at::Tensor& x, const at::Tensor& weight, const at::Tensor& rstd) {
  CheckWeight(op, x_name, x, weight);
  const Arg x_arg{op, x_name, x}, dy_arg{op, "grad", dy}, rstd_arg{op, "rstd", rstd};
  CheckShape(dy_arg, x.sym_sizes(), "x's shape");
  CheckSameDtype(dy_arg, x_arg);
  CheckSameDevice(dy_arg, x_arg);
  CheckShape(rstd_arg, x.sym_sizes().slice(0, x.dim() - 1), "x's shape without H");
  CheckDtype(rstd_arg, ComputeDtype(x));
  CheckSameDevice(rstd_arg, x_arg);
}

at::Tensor RmsNormRstdMeta(const at::Tensor& x) {
  return at::empty_symint(x.sym_sizes().slice(0, x.dim() - 1), x.options().dtype(ComputeDtype(x)));
}

RmsNormBackwardResult RmsNormBackwardMeta(const at::Tensor& x, const at::Tensor& weight,
                                          bool need_dx, bool need_dweight) {
  return {need_dx ? at::empty_symint(x.sym_sizes(), x.options()) : at::empty({0}, x.options()),
          need_dweight ? at::empty_symint(weight.sym_sizes(), weight.options())
                       : at::empty({0}, weight.options())};
}

RmsNormOutput RmsNormForward(const char* op, const at::Tensor& x, const OptionalTensor& residual,
                             const at::Tensor& weight, double eps, double offset,
                             RmsNormCasting casting) {
  if constexpr (kHasCuda) {
    if (HasCudaKernels(x)) {
      return RmsNormForwardCuda(op, x, residual, weight, eps, offset, casting);
    }
  }
  const auto run = HasCpuLoops(x) ? RmsNormForwardCpu : RmsNormForwardAten;
  return run(x, residual, weight, eps, offset, casting);
}

RmsNormBackwardResult RmsNormBackward(const char* op, const at::Tensor& dy,
                                      const OptionalTensor& dsum, const at::Tensor& x,
                                      const at::Tensor& weight, const at::Tensor& rstd,
                                      double offset, RmsNormCasting casting, bool need_dx,
                                      bool need_dweight) {
  if constexpr (kHasCuda) {
    if (HasCudaKernels(x)) {
      return RmsNormBackwardCuda(op, dy, dsum, x, weight, rstd, offset, casting, need_dx,
                                 need_dweight);
    }
  }
  const auto run = HasCpuLoops(x) ? RmsNormBackwardCpu : RmsNormBackwardAten;
  return run(dy, dsum, x, weight, rstd, offset, casting, need_dx, need_dweight);
}

}  // namespace liger::kernels
