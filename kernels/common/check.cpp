#include "kernels/common/check.h"

#include <ATen/MemoryOverlap.h>
#include <c10/util/Exception.h>

namespace liger::kernels {

void CheckFloating(const Arg& arg) {
  const auto dtype = arg.tensor.scalar_type();
  TORCH_CHECK(
      dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kHalf || dtype == at::kDouble,
      arg.op, ": ", arg.name, " has dtype ", dtype,
      ", expected float32, bfloat16, float16 or float64 (its shape is ", arg.tensor.sym_sizes(),
      ")");
}

void CheckDtype(const Arg& arg, c10::ScalarType dtype) {
  TORCH_CHECK(arg.tensor.scalar_type() == dtype, arg.op, ": ", arg.name, " has dtype ",
              arg.tensor.scalar_type(), ", expected ", dtype, " (its shape is ",
              arg.tensor.sym_sizes(), ")");
}

void CheckSameDtype(const Arg& arg, const Arg& other) {
  TORCH_CHECK(arg.tensor.scalar_type() == other.tensor.scalar_type(), arg.op, ": ", arg.name,
              " has dtype ", arg.tensor.scalar_type(), ", expected ", other.name, "'s ",
              other.tensor.scalar_type(), " (its shape is ", arg.tensor.sym_sizes(), ")");
}

void CheckSameDtypeOrFloat(const Arg& arg, const Arg& other) {
  if (arg.tensor.scalar_type() != at::kFloat) CheckSameDtype(arg, other);
}

void CheckSameDevice(const Arg& arg, const Arg& other) {
  TORCH_CHECK(arg.tensor.device() == other.tensor.device(), arg.op, ": ", arg.name, " is on ",
              arg.tensor.device(), ", expected ", other.name, "'s device ", other.tensor.device(),
              " (its shape is ", arg.tensor.sym_sizes(), ")");
}

void CheckDim(const Arg& arg, int64_t dim) {
  TORCH_CHECK(arg.tensor.dim() == dim, arg.op, ": ", arg.name, " has shape ",
              arg.tensor.sym_sizes(), ", expected ", dim,
              dim == 1 ? " dimension" : " dimensions");
}

void CheckAtLeastDim(const Arg& arg, int64_t dim) {
  TORCH_CHECK(arg.tensor.dim() >= dim, arg.op, ": ", arg.name, " has shape ",
              arg.tensor.sym_sizes(), ", expected at least ", dim, " dimension(s)");
}

void CheckNotEmpty(const Arg& arg, int64_t dim) {
  TORCH_CHECK(arg.tensor.sym_size(dim) > 0, arg.op, ": ", arg.name, " has shape ",
              arg.tensor.sym_sizes(), ", expected at least one element in dimension ",
              dim < 0 ? dim + arg.tensor.dim() : dim);
}

void CheckShape(const Arg& arg, c10::SymIntArrayRef shape, const char* meaning) {
  TORCH_CHECK(arg.tensor.sym_sizes() == shape, arg.op, ": ", arg.name, " has shape ",
              arg.tensor.sym_sizes(), ", expected ", meaning, " = ", shape);
}

void CheckContiguous(const Arg& arg) {
  TORCH_CHECK(arg.tensor.is_contiguous(), arg.op, ": ", arg.name, " of shape ",
              arg.tensor.sym_sizes(), " must be contiguous");
}

void CheckNoOverlap(const Arg& arg) {
  TORCH_CHECK(at::has_internal_overlap(arg.tensor) != at::MemOverlap::Yes, arg.op, ": ", arg.name,
              " of shape ", arg.tensor.sym_sizes(), " is written, but elements of it share memory");
}

void CheckLinearHead(const char* op, const at::Tensor& hidden, const at::Tensor& weight,
                     const at::Tensor& target, const std::optional<at::Tensor>& bias) {
  const Arg hidden_arg{op, "hidden", hidden}, weight_arg{op, "weight", weight};
  const Arg target_arg{op, "target", target};
  CheckFloating(hidden_arg);
  CheckDim(hidden_arg, 2);
  CheckDim(weight_arg, 2);
  CheckSameDtype(weight_arg, hidden_arg);
  CheckSameDevice(weight_arg, hidden_arg);
  CheckShape(weight_arg, {weight.sym_size(0), hidden.sym_size(1)}, "[V, H]");
  CheckNotEmpty(weight_arg, 0);
  CheckDtype(target_arg, at::kLong);
  CheckSameDevice(target_arg, hidden_arg);
  CheckShape(target_arg, {hidden.sym_size(0)}, "[T]");
  if (bias.has_value()) {
    const Arg bias_arg{op, "bias", *bias};
    CheckSameDtype(bias_arg, hidden_arg);
    CheckSameDevice(bias_arg, hidden_arg);
    CheckShape(bias_arg, {weight.sym_size(0)}, "[V]");
  }
}

int64_t CheckTargetRange(const char* op, const at::Tensor& target_T, int64_t V,
                         int64_t ignore_index) {
  const auto target = target_T.accessor<int64_t, 1>();
  int64_t num_valid = 0;
  for (int64_t t = 0; t < target.size(0); ++t) {
    if (target[t] == ignore_index) continue;
    TORCH_CHECK_INDEX(
        target[t] >= 0 && target[t] < V, op, ": target[", t, "] is ", target[t], ", expected ",
        ignore_index == kNoIgnoreIndex ? "" : c10::str(ignore_index, " (ignored) or "),
        "a value in [0, ", V, ") (its shape is ", target_T.sizes(), ")");
    ++num_valid;
  }
  return num_valid;
}

}  // namespace liger::kernels
