// For builds without cuDNN's frontend.
#include "kernels/attention/cudnn_plans.h"

namespace liger::kernels::cudnn {

bool Available(int) { return false; }

const PlanOrError& PlanFor(const PlanKey&) {
  static const PlanOrError none{nullptr, "this build has no cuDNN attention"};
  return none;
}

}  // namespace liger::kernels::cudnn
