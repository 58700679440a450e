#ifndef LIGER_SERVER_API_HELD_CALL_H_
#define LIGER_SERVER_API_HELD_CALL_H_

#include <functional>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "grpcpp/support/server_callback.h"
#include "server/api/status.h"

namespace liger::server {

// A unary call that may take long. When its client goes, or the server's patience
// ends, the call ends at once and its check is given up. Owns itself until gRPC
// is done with it; the answer to come holds it for longer.
template <typename Response>
class HeldCall : public grpc::ServerUnaryReactor {
 public:
  static std::shared_ptr<HeldCall> Start(Response* response) {
    std::shared_ptr<HeldCall> call(new HeldCall(response));
    call->self_ = call;
    return call;
  }

  // Only the first answer counts: after it `response_` is gRPC's.
  void Answer(absl::StatusOr<Response> result) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (std::exchange(answered_, true)) return;
    if (result.ok()) *response_ = *std::move(result);
    Finish(ToGrpc(result.status()));
  }

  void SetGiveUp(std::function<void()> give_up) ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      absl::MutexLock lock(&mutex_);
      if (!cancelled_) {
        give_up_ = std::move(give_up);
        return;
      }
    }
    give_up();
  }

  void OnCancel() override ABSL_LOCKS_EXCLUDED(mutex_) {
    Answer(absl::CancelledError("the client went away"));
    std::function<void()> give_up;
    {
      absl::MutexLock lock(&mutex_);
      cancelled_ = true;
      give_up.swap(give_up_);
    }
    if (give_up) give_up();
  }

  void OnDone() override { self_.reset(); }  // may delete this

 private:
  explicit HeldCall(Response* response) : response_(response) {}

  Response* const response_;
  absl::Mutex mutex_;
  bool answered_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  std::function<void()> give_up_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<HeldCall> self_;
};

}  // namespace liger::server

#endif  // LIGER_SERVER_API_HELD_CALL_H_
