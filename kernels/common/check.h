#ifndef LIGER_KERNELS_COMMON_CHECK_H_
#define LIGER_KERNELS_COMMON_CHECK_H_

#include <ATen/core/Tensor.h>

#include <limits>
#include <optional>
#include <string>

namespace liger::kernels {

// An argument of an op as its error messages name it: "rms_norm: weight has shape [577], ...".
// Shapes are read symbolically, so that Meta kernels share the checks.
struct Arg {
  const char* op;
  const char* name;
  const at::Tensor& tensor;
};

// float32, bfloat16, float16 or float64.
void CheckFloating(const Arg& arg);
void CheckDtype(const Arg& arg, c10::ScalarType dtype);
void CheckSameDtype(const Arg& arg, const Arg& other);
// other's dtype or float32.
void CheckSameDtypeOrFloat(const Arg& arg, const Arg& other);
void CheckSameDevice(const Arg& arg, const Arg& other);
void CheckDim(const Arg& arg, int64_t dim);
void CheckAtLeastDim(const Arg& arg, int64_t dim);
// At least one element along this dimension; -1: the last.
void CheckNotEmpty(const Arg& arg, int64_t dim);
// `meaning` says what the shape stands for: "[V, H]".
void CheckShape(const Arg& arg, c10::SymIntArrayRef shape, const char* meaning);
void CheckContiguous(const Arg& arg);
// Of a tensor that is written: no two of its elements lie in one place, as an expanded one's do.
void CheckNoOverlap(const Arg& arg);

// hidden_TH, weight_VH, target_T, bias_V of the fused linear ops.
void CheckLinearHead(const char* op, const at::Tensor& hidden, const at::Tensor& weight,
                     const at::Tensor& target, const std::optional<at::Tensor>& bias);

// The ignore_index of rows that all count, as of a chunk whose ignored ones are gone already: no
// target that somebody might mean.
inline constexpr int64_t kNoIgnoreIndex = std::numeric_limits<int64_t>::min();

// Targets of a CPU tensor: throws with the row and the value of the first that is neither
// ignore_index nor in [0, V). Returns how many are not ignored.
int64_t CheckTargetRange(const char* op, const at::Tensor& target_T, int64_t V,
                         int64_t ignore_index);

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_COMMON_CHECK_H_
