#ifndef LIGER_WORKER_AGENT_SESSION_H_
#define LIGER_WORKER_AGENT_SESSION_H_

#include <deque>
#include <functional>
#include <memory>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "grpcpp/channel.h"
#include "liger/worker/v1/worker.grpc.pb.h"

namespace liger::agent {

// The control stream to the coordinator: opened again, with back-off, whenever
// it breaks. Carries messages and decides nothing.
class Session {
 public:
  // Called from the session's threads, in this order for each stream.
  struct Callbacks {
    // The stream is open: the Hello must be the first thing sent on it.
    std::function<void(int64_t stream_id)> opened;
    std::function<void(int64_t stream_id, worker::v1::CoordinatorMessage)> received;
    std::function<void(int64_t stream_id, absl::Status)> closed;
  };

  Session(std::shared_ptr<grpc::Channel> channel, Callbacks callbacks);
  ~Session();

  // Queues a message; dropped when that stream is not the current one: what
  // must not be lost is replayed after the next Hello. Thread-safe.
  void Send(int64_t stream_id, worker::v1::WorkerMessage message);
  // Ends this stream, so that a new one is opened. Thread-safe.
  void Close(int64_t stream_id);
  // The coordinator answered sensibly: the next reconnection is quick, and no
  // later one waits for more than `longest`.
  void ResetBackoff(absl::Duration longest);
  // Waits until everything queued is on its way, or `timeout` is over.
  void Flush(absl::Duration timeout);

 private:
  using Stream =
      grpc::ClientReaderWriter<worker::v1::WorkerMessage, worker::v1::CoordinatorMessage>;

  void Run();
  // Returns when the channel is connected, after a while, or when stopping.
  void AwaitConnection();
  absl::Status Serve(int64_t stream_id);
  void WriteLoop(Stream& stream);
  bool CanWrite() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stream_over_ || !outgoing_.empty();
  }
  bool Flushed() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stream_over_ || (outgoing_.empty() && !writing_);
  }
  absl::Duration NextBackoff();

  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<worker::v1::Fleet::Stub> stub_;
  const Callbacks callbacks_;

  absl::Mutex mutex_;
  std::deque<worker::v1::WorkerMessage> outgoing_ ABSL_GUARDED_BY(mutex_);
  int64_t stream_id_ ABSL_GUARDED_BY(mutex_) = 0;
  grpc::ClientContext* context_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool stream_over_ ABSL_GUARDED_BY(mutex_) = true;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Duration backoff_ ABSL_GUARDED_BY(mutex_);
  absl::Duration longest_backoff_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_SESSION_H_
