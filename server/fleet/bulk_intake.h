#ifndef LIGER_SERVER_FLEET_BULK_INTAKE_H_
#define LIGER_SERVER_FLEET_BULK_INTAKE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "common/clock.h"
#include "liger/worker/v1/worker.pb.h"
#include "server/fleet/links.h"
#include "server/logs/log_store.h"
#include "server/metrics/job_metrics.h"
#include "server/rpc/executor.h"
#include "server/store/store.h"

namespace liger::server {

// What comes over Ship: logs go to files, logged steps to the store, in one
// transaction for all jobs every `flush_interval`. Both are acknowledged once
// they are stored, and only then counted in the metrics. One transaction is
// under way at a time: if it fails, later steps must not be stored before the
// worker has sent its steps again.
class BulkIntake : public ChunkHandler {
 public:
  // All outlive the intake.
  BulkIntake(Store* store, LogStore* logs, JobMetrics* metrics,
             absl::Duration flush_interval = absl::Seconds(5), const Clock* clock = Clock::Real());
  ~BulkIntake() override;

  void OnChunk(const std::shared_ptr<ShipLink>& link, liger::worker::v1::Chunk chunk,
               std::function<void()> next) override;

  // Time passes.
  void Tick();
  // Calls `done` once all steps that have come of this task are stored, or could not be. Those that
  // come later are stored at once, and so are those for which it is being looked up whether there
  // is such a task. Not called when the intake stops first.
  void SettleEnd(const liger::trainer::v1::Ref& ref, std::function<void()> done);
  // Sends what is buffered to the store, unless it is busy with the steps before
  // (the worker sends what was not acknowledged again), and stops taking chunks.
  // Call before the store closes.
  void Stop();

  // The absolute cap on steps that wait for a flush, over all jobs.
  static constexpr int kMaxBufferedSamples = 20'000;

 private:
  using Attempt = std::pair<std::string, int64_t>;  // job_uid, epoch
  // Where one attempt's bulk stands.
  struct State {
    int64_t stored_step = 0;
    int64_t buffered_step = 0;
    std::vector<liger::worker::v1::MetricSample> buffer;
    std::map<int, int64_t> log_offsets;  // stored through, by rank
    bool logs_changed = false;
    liger::trainer::v1::Ref ref;
    // The last that sent something of a rank, by rank: of a gang, several workers send.
    std::map<int, std::shared_ptr<ShipLink>> links;
    absl::Duration last_use;
  };
  struct Item {
    std::shared_ptr<ShipLink> link;
    liger::worker::v1::Chunk chunk;
    std::function<void()> next;
  };

  // These run on `thread_`, which alone touches the members below it.
  void Handle(Item item);
  void LookUp(Item item);
  void Take(State* state, const Item& item);
  void TakeLog(State* state, const Item& item);
  void TakeMetrics(State* state, const Item& item);
  void Acknowledge(const State& state, int rank);
  // Lets a sender go on, when there is room for what it sends next.
  void Proceed(std::function<void()> next);
  // By attempt, in one transaction.
  using Batch = std::vector<std::pair<Attempt, std::vector<liger::worker::v1::MetricSample>>>;
  void Flush();
  void Stored(const Batch& batch, const absl::Status& status);
  void PutLogRows();

  Store* const store_;
  LogStore* const logs_;
  JobMetrics* const metrics_;
  const Clock& clock_;
  const absl::Duration flush_interval_;

  std::map<Attempt, State> states_;
  std::map<Attempt, absl::Duration> ended_;  // and when: no step of these waits for the interval
  int buffered_samples_ = 0;
  bool storing_ = false;
  std::vector<std::function<void()>> held_;  // senders that wait for room
  // Who waits for the transaction under way, and for the one after it.
  std::vector<std::function<void()>> ends_, ends_after_next_;
  absl::Duration last_flush_;

  Executor thread_;  // last: joined before the rest goes
};

}  // namespace liger::server

#endif  // LIGER_SERVER_FLEET_BULK_INTAKE_H_
