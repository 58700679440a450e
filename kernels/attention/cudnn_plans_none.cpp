// For builds without cuDNN's frontend.
#include <stdexcept>

#include "kernels/attention/cudnn_plans.h"

namespace liger::kernels::cudnn {

bool Available(int) { return false; }

std::shared_ptr<const Plan> PlanFor(const PlanKey&) {
  throw std::runtime_error("this build has no cuDNN attention");
}

}  // namespace liger::kernels::cudnn
