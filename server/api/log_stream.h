#ifndef LIGER_SERVER_API_LOG_STREAM_H_
#define LIGER_SERVER_API_LOG_STREAM_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "liger/v1/fine_tuning.grpc.pb.h"
#include "server/api/live_streams.h"
#include "server/logs/log_store.h"
#include "server/rpc/executor.h"
#include "server/rpc/queued_writer.h"
#include "server/store/store.h"

namespace liger::server {

// One TailLogs call: reads a log file a piece at a time, as fast as the client
// reads. With `follow` it waits for more, goes on with the next attempt when
// there is one, and ends when the job is over and its log is quiet.
class LogStream : public QueuedWriter<grpc::ServerWriteReactor<liger::v1::TailLogsResponse>,
                                      liger::v1::TailLogsResponse>,
                  public LiveStream {
 public:
  // The last bytes of a log come over another stream than the end of the job.
  static constexpr absl::Duration kQuiet = absl::Seconds(1);

  // All outlive the stream. Files are read on `files`.
  LogStream(Store* store, LogStore* logs, Executor* files, std::string tenant,
            const liger::v1::TailLogsRequest& request);

  // Call once, on an object owned by a shared pointer.
  void Begin();

  void Poke() override;
  void End(const absl::Status& status) override;

 protected:
  void OnSent() override { Schedule(); }
  void OnFinished() override;

 private:
  struct Target {
    std::string job_uid;
    int64_t epoch = 0;
    absl::Time ended = absl::InfiniteFuture();  // when the job became terminal
  };

  std::shared_ptr<LogStream> Self() {
    return std::static_pointer_cast<LogStream>(shared_from_this());
  }
  // Reads the job, then goes on in OnTarget.
  void Resolve();
  void OnTarget(const absl::StatusOr<Target>& target) ABSL_LOCKS_EXCLUDED(state_mutex_);
  // Runs Pump on `files_`: one at a time, once for any number of reasons to. It
  // reads files without the lock, which gRPC's threads take.
  void Schedule() ABSL_LOCKS_EXCLUDED(state_mutex_);
  void Pump() ABSL_LOCKS_EXCLUDED(state_mutex_);
  // Finds where to begin.
  void OpenLog() ABSL_LOCKS_EXCLUDED(state_mutex_);
  // Sends the next piece. False when there is nothing or no room for it.
  bool SendPiece() ABSL_LOCKS_EXCLUDED(state_mutex_);
  // Everything was sent, and no more will come.
  bool IsDone() ABSL_LOCKS_EXCLUDED(state_mutex_);
  struct Place {
    LogKey key;
    int64_t offset;
  };
  Place Here() ABSL_LOCKS_EXCLUDED(state_mutex_);

  Store* const store_;
  LogStore* const logs_;
  Executor* const files_;
  const std::string tenant_;
  const liger::v1::TailLogsRequest request_;

  absl::Mutex state_mutex_;
  bool resolved_ ABSL_GUARDED_BY(state_mutex_) = false;
  bool resolving_ ABSL_GUARDED_BY(state_mutex_) = false;
  bool scheduled_ ABSL_GUARDED_BY(state_mutex_) = false;
  bool again_ ABSL_GUARDED_BY(state_mutex_) = false;  // Schedule came during Pump
  LogKey key_ ABSL_GUARDED_BY(state_mutex_);
  int64_t next_epoch_ ABSL_GUARDED_BY(state_mutex_) = 0;  // newest seen
  int64_t offset_ ABSL_GUARDED_BY(state_mutex_) = 0;
  bool terminal_ ABSL_GUARDED_BY(state_mutex_) = false;
  // For more of the log: asked for, or the job ended just now and the rest is on its way.
  bool waits_ ABSL_GUARDED_BY(state_mutex_);
  absl::Duration quiet_since_ ABSL_GUARDED_BY(state_mutex_) = absl::InfiniteDuration();
  int64_t listener_ ABSL_GUARDED_BY(state_mutex_) = 0;
  bool finished_ ABSL_GUARDED_BY(state_mutex_) = false;
};

}  // namespace liger::server

#endif  // LIGER_SERVER_API_LOG_STREAM_H_
