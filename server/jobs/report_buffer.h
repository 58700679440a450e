#ifndef LIGER_SERVER_JOBS_REPORT_BUFFER_H_
#define LIGER_SERVER_JOBS_REPORT_BUFFER_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "liger/worker/v1/worker.pb.h"
#include "server/store/commands.h"

namespace liger::server {

// Turns the workers' task events into ReportTask commands: what matters at
// once is reported at once, together with everything before it; progress and
// its like wait for the next flush, merged, so that a job writes to disk about
// once a second however often it reports. Not thread-safe.
class ReportBuffer {
 public:
  explicit ReportBuffer(int32_t max_restarts) : max_restarts_(max_restarts) {}

  struct Added {
    bool repeated = false;            // seen before; acknowledge again
    bool gap = false;                 // out of order; dropped
    std::optional<ReportTask> ready;  // apply now
  };
  Added Add(const std::string& worker_id, const liger::worker::v1::TaskEvent& event);

  // Everything that waits.
  std::vector<ReportTask> Flush();

  // A report that the store could not take: comes back with the next Flush,
  // before anything newer.
  void Return(ReportTask report);

  // The worker replays from what the store knows: forget what was received.
  void ForgetWorker(const std::string& worker_id);
  void ForgetTask(const std::string& worker_id, const liger::trainer::v1::Ref& ref);

 private:
  using Key = std::tuple<std::string, std::string, int64_t, std::string>;
  static Key KeyOf(const std::string& worker_id, const liger::trainer::v1::Ref& ref);

  struct Task {
    int64_t through_seq = 0;            // received
    std::optional<ReportTask> waiting;  // not yet applied
    std::vector<ReportTask> returned;   // to apply again, in order
    liger::v1::Progress progress;       // as of through_seq
    double train_seconds = 0;           // estimated from the thinned steps
  };
  static bool Merge(const liger::worker::v1::TaskEvent& event, Task* task);

  const int32_t max_restarts_;
  std::map<Key, Task> tasks_;
};

}  // namespace liger::server

#endif  // LIGER_SERVER_JOBS_REPORT_BUFFER_H_
