#ifndef LIGER_WORKER_TRAINER_OPTIM_SUM_OF_SQUARES_H_
#define LIGER_WORKER_TRAINER_OPTIM_SUM_OF_SQUARES_H_

#include <ATen/core/Tensor.h>

#include <cstdint>

// Inner part of GlobalGradientNorm; not for use elsewhere.
namespace liger::trainer {

// Sum of squares of elements [begin, end) of a contiguous CPU tensor, float32 or bfloat16, in
// double.
double SumOfSquares(const at::Tensor& values, int64_t begin, int64_t end);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OPTIM_SUM_OF_SQUARES_H_
