#ifndef LIGER_SERVER_RPC_QUEUED_WRITER_H_
#define LIGER_SERVER_RPC_QUEUED_WRITER_H_

#include <cstddef>
#include <deque>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/synchronization/mutex.h"
#include "grpcpp/support/server_callback.h"
#include "grpcpp/support/status.h"

namespace liger::server {

// A streaming reactor with a bounded queue of outgoing messages. gRPC allows
// one write at a time and one Finish; this keeps both rules, from any thread.
// `Base` is grpc::ServerWriteReactor<Out> or grpc::ServerBidiReactor<In, Out>.
//
// The object owns itself from Hold() until gRPC is done with it; others may
// keep shared pointers for longer, on which Send and Close do nothing.
template <typename Base, typename Out>
class QueuedWriter : public Base, public std::enable_shared_from_this<QueuedWriter<Base, Out>> {
 public:
  // Queues a message. False when the stream is closing, or when `max_queued`
  // messages wait already: then nothing was queued.
  bool Send(Out message) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (closing_ || queue_.size() >= max_queued_) return false;
    queue_.push_back(std::move(message));
    if (queue_.size() == 1) this->StartWrite(&queue_.front());
    return true;
  }

  // Ends the stream after what is queued. Only the first call counts.
  void Close(grpc::Status status) ABSL_LOCKS_EXCLUDED(mutex_) { CloseImpl(status, false); }

  // Ends the stream after the write in progress, dropping what waits.
  void CloseNow(grpc::Status status) ABSL_LOCKS_EXCLUDED(mutex_) { CloseImpl(status, true); }

  size_t queued() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return queue_.size();
  }

 protected:
  explicit QueuedWriter(size_t max_queued) : max_queued_(max_queued) {}

  // Call once, when a shared pointer to the object exists.
  void Hold() { self_ = this->shared_from_this(); }

  // Runs `operation` (a StartRead) unless the stream has ended, when gRPC allows
  // no more operations.
  void UnlessFinished(absl::FunctionRef<void()> operation) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (!finished_) operation();
  }

  // A queued message was written: there is room again.
  virtual void OnSent() {}
  // The last callback; no other follows.
  virtual void OnFinished() {}

  void OnWriteDone(bool ok) final ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      absl::MutexLock lock(&mutex_);
      queue_.pop_front();
      if (!ok) {
        queue_.clear();
        closing_ = true;
        final_status_ = grpc::Status(grpc::StatusCode::CANCELLED, "the peer is gone");
      }
      if (!queue_.empty()) {
        this->StartWrite(&queue_.front());
      } else if (closing_) {
        FinishLocked();
        return;
      }
    }
    OnSent();
  }

  void OnCancel() override {
    CloseNow(grpc::Status(grpc::StatusCode::CANCELLED, "cancelled by the peer"));
  }

  void OnDone() final {
    OnFinished();
    self_.reset();  // may delete this
  }

 private:
  void CloseImpl(const grpc::Status& status, bool drop) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    // The front is with gRPC and stays.
    if (drop && queue_.size() > 1) queue_.erase(queue_.begin() + 1, queue_.end());
    if (closing_) return;
    closing_ = true;
    final_status_ = status;
    if (queue_.empty()) FinishLocked();
  }

  void FinishLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (finished_) return;
    finished_ = true;
    this->Finish(final_status_);
  }

  const size_t max_queued_;
  mutable absl::Mutex mutex_;
  // The front is being written. A deque, so that it does not move meanwhile.
  std::deque<Out> queue_ ABSL_GUARDED_BY(mutex_);
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::Status final_status_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<QueuedWriter> self_;
};

}  // namespace liger::server

#endif  // LIGER_SERVER_RPC_QUEUED_WRITER_H_
