#ifndef LIGER_CLIENT_INTERRUPT_H_
#define LIGER_CLIENT_INTERRUPT_H_

#include <signal.h>

#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "grpcpp/client_context.h"

namespace liger::client {

// While alive, Ctrl-C cancels the call that is attached instead of ending the
// process. At most one at a time; it spans a loop of calls, so that no Ctrl-C
// between two of them is lost.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;

  // Ctrl-C cancels `context`, at once when it has come already. The context
  // stays alive until it is detached.
  void Attach(grpc::ClientContext* context);
  void Detach();

  bool interrupted() const;

  // Returns early at Ctrl-C.
  void Sleep(absl::Duration duration) const;

 private:
  // Waits for bytes that the signal handler writes.
  void Listen();

  struct sigaction previous_ = {};
  std::thread listener_;
  mutable absl::Mutex mutex_;
  bool interrupted_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::ClientContext* context_ ABSL_GUARDED_BY(mutex_) = nullptr;
};

}  // namespace liger::client

#endif  // LIGER_CLIENT_INTERRUPT_H_
