#ifndef LIGER_WORKER_TRAINER_GRADIENT_SUM_H_
#define LIGER_WORKER_TRAINER_GRADIENT_SUM_H_

#include <ATen/core/Tensor.h>

#include <utility>

namespace liger::trainer {

// Where an op adds a parameter's gradient up by itself, and whether it is the first of the step
// that does: then it writes over what is there, which spares zeroing the tensor and reading the
// zeros.
struct GradientSum {
  at::Tensor sum;       // fp32, of the parameter's shape
  bool is_new = false;  // nothing has been added yet, and what `sum` holds does not count

  // Whether the caller, who is about to add, has to write over it instead.
  bool TakeNew() { return std::exchange(is_new, false); }
  // Zeros unless somebody has written. To be called before anything else adds to `sum` or reads it.
  const at::Tensor& Settled() {
    if (TakeNew()) sum.zero_();
    return sum;
  }
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_GRADIENT_SUM_H_
