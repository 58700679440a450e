#ifndef LIGER_SERVER_API_WATCH_STREAM_H_
#define LIGER_SERVER_API_WATCH_STREAM_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "liger/v1/fine_tuning.grpc.pb.h"
#include "server/api/change_hub.h"
#include "server/api/live_streams.h"
#include "server/rpc/queued_writer.h"
#include "server/store/store.h"

namespace liger::server {

// One WatchJobs call. First it catches up from the store, a page at a time, as
// fast as the client reads; meanwhile and afterwards it takes live changes from
// the hub. A client that still has kMaxBehind of them to read when the next
// commit comes is too slow: it is cut off with the revision to resume from. (A
// single commit may change more jobs than that.)
class WatchStream : public QueuedWriter<grpc::ServerWriteReactor<liger::v1::WatchJobsResponse>,
                                        liger::v1::WatchJobsResponse>,
                    public LiveStream {
 public:
  static constexpr size_t kMaxBehind = 256;

  // `store` and `hub` outlive the stream.
  WatchStream(Store* store, ChangeHub* hub, std::string tenant,
              const liger::v1::WatchJobsRequest& request);

  // Call once, on an object owned by a shared pointer.
  void Begin();

  void Poke() override {}
  void End(const absl::Status& status) override;

 protected:
  void OnSent() override { Pump(); }
  void OnFinished() override;

 private:
  // What one read of the store gave.
  struct Page {
    std::string job_uid;  // of the job watched
    int64_t revision = 0;
    std::vector<liger::v1::WatchJobsResponse> responses;
    std::string next_page_token;  // more of the list of jobs
    int64_t next_revision = 0;    // more events after this one; 0: no more
  };

  std::shared_ptr<WatchStream> Self() {
    return std::static_pointer_cast<WatchStream>(shared_from_this());
  }
  void ReadPage(std::string page_token, int64_t after_revision);
  static absl::StatusOr<Page> StatePage(const ReadView& view, const std::string& tenant,
                                        const std::string& job, const std::string& page_token);
  static absl::StatusOr<Page> EventsPage(const ReadView& view, const std::string& tenant,
                                         const std::string& job, int64_t after_revision);
  void OnPage(absl::StatusOr<Page> page) ABSL_LOCKS_EXCLUDED(state_mutex_);
  void OnChanges(const std::vector<JobChange>& changes) ABSL_LOCKS_EXCLUDED(state_mutex_);
  void OnChange(const JobChange& change) ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_mutex_);
  // Progress and wait reasons are latest-wins.
  void DropSuperseded() ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_mutex_);
  // Sends what there is room for, and reads on when a page is used up.
  void Pump() ABSL_LOCKS_EXCLUDED(state_mutex_);
  absl::Status TooSlow() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_mutex_);

  Store* const store_;
  ChangeHub* const hub_;
  const std::string tenant_;
  const std::string job_;
  const int64_t from_revision_;

  absl::Mutex state_mutex_;
  int64_t subscription_ ABSL_GUARDED_BY(state_mutex_) = 0;
  bool caught_up_ ABSL_GUARDED_BY(state_mutex_) = false;
  bool reading_ ABSL_GUARDED_BY(state_mutex_) = false;
  std::string job_uid_ ABSL_GUARDED_BY(state_mutex_);
  // What is left of the page, and how to read the next one.
  std::deque<liger::v1::WatchJobsResponse> page_ ABSL_GUARDED_BY(state_mutex_);
  std::string next_page_token_ ABSL_GUARDED_BY(state_mutex_);
  int64_t next_revision_ ABSL_GUARDED_BY(state_mutex_) = 0;
  // The revision that catching up has reached, and, beyond it, jobs whose state
  // was read later than that.
  int64_t caught_up_to_ ABSL_GUARDED_BY(state_mutex_) = 0;
  std::map<std::string, int64_t> newer_ ABSL_GUARDED_BY(state_mutex_);
  std::deque<JobChange> live_ ABSL_GUARDED_BY(state_mutex_);
  // To resume from: of the last message that was given to gRPC.
  int64_t resume_revision_ ABSL_GUARDED_BY(state_mutex_);
};

}  // namespace liger::server

#endif  // LIGER_SERVER_API_WATCH_STREAM_H_
