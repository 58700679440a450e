#include "worker/trainer/models/vector_math.h"

#include <ATen/ATen.h>

namespace liger::trainer {

void ResolveVectorMath() {
  // What ATen's vml.h hands to MKL.
  static const bool resolved = [] {
    using Function = at::Tensor (*)(const at::Tensor&);
    constexpr Function kFunctions[] = {at::acos, at::asin,  at::atan,   at::cos,  at::cosh,
                                       at::erf,  at::erfc,  at::erfinv, at::exp,  at::expm1,
                                       at::log,  at::log10, at::log1p,  at::log2, at::sin,
                                       at::sinh, at::sqrt,  at::tan,    at::tanh};
    for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
      const at::Tensor half = at::full({1}, 0.5, dtype);
      for (const Function function : kFunctions) function(half);
    }
    return true;
  }();
  (void)resolved;
}

}  // namespace liger::trainer
