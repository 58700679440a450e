#ifndef LIGER_SERVER_LOGS_LOG_STORE_H_
#define LIGER_SERVER_LOGS_LOG_STORE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

namespace liger::server {

// Which log: one rank of one attempt of a job.
struct LogKey {
  std::string job_uid;
  int64_t epoch = 0;
  int rank = 0;
};

// The jobs' logs as files, `<root>/<job_uid>/<epoch>/rank<r>.log`, so that they
// outlive the worker. A file's size is the offset stored through: there is no
// second record that could disagree with it. Every method but the listeners
// does file I/O: call them off the gRPC threads.
class LogStore {
 public:
  static constexpr int64_t kMaxBytesPerJob = int64_t{64} << 20;
  // This part of it every log may have, however full the job's logs are: a later
  // attempt says why it failed, too.
  static constexpr int64_t kReservedPart = 16;

  explicit LogStore(std::string root, int64_t max_bytes_per_job = kMaxBytesPerJob);

  // Of a log, below the root.
  static std::string RelativePath(const LogKey& key);

  // Stores `data`, whose first byte is number `offset` of the log, and returns
  // the offset stored through. What is known already is skipped. A gap stores
  // nothing: the sender goes on from the returned offset. When the job's logs
  // are full, a last line in each says so and later bytes are accepted but
  // dropped.
  absl::StatusOr<int64_t> Append(const LogKey& key, int64_t offset, absl::string_view data)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // 0 for a log that does not exist.
  absl::StatusOr<int64_t> Size(const LogKey& key) const;

  // At most `max_bytes` from `offset`; empty at the end.
  absl::StatusOr<std::string> Read(const LogKey& key, int64_t offset, int64_t max_bytes) const;

  // All logs of a job.
  absl::Status Remove(const std::string& job_uid) ABSL_LOCKS_EXCLUDED(mutex_);

  // `listener` runs after each append to the job's logs, on the appender's
  // thread, until RemoveListener, which waits for a call in progress.
  int64_t AddListener(const std::string& job_uid, std::function<void()> listener)
      ABSL_LOCKS_EXCLUDED(listeners_mutex_);
  void RemoveListener(const std::string& job_uid, int64_t id) ABSL_LOCKS_EXCLUDED(listeners_mutex_);

 private:
  absl::StatusOr<std::string> PathOf(const LogKey& key) const;
  int64_t JobBytes(const std::string& job_uid) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Notify(const std::string& job_uid) ABSL_LOCKS_EXCLUDED(listeners_mutex_);

  const std::string root_;
  const int64_t max_bytes_per_job_;

  absl::Mutex mutex_;
  // Bytes on disk by job, counted at first use.
  std::map<std::string, int64_t> job_bytes_ ABSL_GUARDED_BY(mutex_);

  absl::Mutex listeners_mutex_;
  int64_t next_listener_ ABSL_GUARDED_BY(listeners_mutex_) = 1;
  std::map<std::string, std::map<int64_t, std::function<void()>>> listeners_
      ABSL_GUARDED_BY(listeners_mutex_);
};

}  // namespace liger::server

#endif  // LIGER_SERVER_LOGS_LOG_STORE_H_
