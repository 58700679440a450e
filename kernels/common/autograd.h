#ifndef LIGER_KERNELS_COMMON_AUTOGRAD_H_
#define LIGER_KERNELS_COMMON_AUTOGRAD_H_

#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>

namespace liger::kernels {

// Backward of these ops is not itself differentiable: says so instead of returning gradients
// that are silently constant. Call first in a Function's backward.
inline void CheckFirstDerivative(const char* op) {
  TORCH_CHECK(!c10::GradMode::is_enabled(), op,
              ": second derivatives are not defined; backward ran with create_graph=True");
}

// A dispatcher op by name, with the C++ signature of one of its kernels:
//   static const auto op = FindOp<decltype(Forward)>("liger::rms_norm_forward");
template <typename Signature>
c10::TypedOperatorHandle<Signature> FindOp(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").template typed<Signature>();
}

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_COMMON_AUTOGRAD_H_
