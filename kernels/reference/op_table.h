#ifndef LIGER_KERNELS_REFERENCE_OP_TABLE_H_
#define LIGER_KERNELS_REFERENCE_OP_TABLE_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/reference/reference.h"

// The one table of ops that checks of values and gradients run over, and that memory checks
// and benchmarks will: what to feed an op, how to call it, its twin and its reference.
namespace liger::kernels {

using Tensors = std::vector<at::Tensor>;

struct OpShape {
  std::string name;
  int64_t tokens;
  int64_t width;  // H, I or D
  int64_t vocab;  // V, or the number of heads, or N of linear
  // Every `valid_every`-th target is not ignored; 0: all are ignored.
  int64_t valid_every = 1;
  // For a path that only a GPU has.
  bool gpu_only = false;
};

struct OpCase {
  std::string name;     // unique: "rms_norm_gemma"
  std::string_view op;  // one of kOpNames
  std::vector<OpShape> shapes;
  // Random inputs of a shape, floating ones in `dtype`. Uses torch's default generator.
  std::function<Tensors(const OpShape&, c10::ScalarType dtype)> make;
  std::vector<bool> differentiable;  // which inputs have a gradient
  // Inputs -> outputs; the differentiable outputs come first.
  std::function<Tensors(const Tensors&)> ours, baseline;
  // PyTorch's own op on a CPU where it is another one than the baseline, which is made of several:
  // its rounding depends on the processor's instructions. The worse of the two is the yardstick.
  std::function<Tensors(const Tensors&)> pytorch_on_cpu;
  size_t num_differentiable_outputs = 1;
  // Float64 inputs, float64 upstream gradients of the differentiable outputs.
  std::function<reference::Result(const Tensors& inputs, const Tensors& grads)> reference;
  // Index of the target among the inputs, or -1.
  int target = -1;
  // Index of a label that only says which rows count (kIgnoreIndex: not), or -1.
  int label = -1;
  // Integer inputs whatever the dtype, exact outputs, nothing differentiable.
  bool integral = false;
};

const std::vector<OpCase>& OpTable();

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_REFERENCE_OP_TABLE_H_
