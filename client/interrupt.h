#ifndef LIGER_CLIENT_INTERRUPT_H_
#define LIGER_CLIENT_INTERRUPT_H_

#include "grpcpp/client_context.h"

namespace liger::client {

// While alive, Ctrl-C cancels `context` instead of ending the process.
// At most one at a time.
class InterruptGuard {
 public:
  explicit InterruptGuard(grpc::ClientContext* context);
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;

  static bool interrupted();
};

}  // namespace liger::client

#endif  // LIGER_CLIENT_INTERRUPT_H_
