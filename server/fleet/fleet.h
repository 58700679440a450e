#ifndef LIGER_SERVER_FLEET_FLEET_H_
#define LIGER_SERVER_FLEET_FLEET_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "liger/worker/v1/worker.pb.h"
#include "server/fleet/lease.h"
#include "server/fleet/links.h"
#include "server/jobs/fleet_port.h"
#include "server/store/records.h"

namespace liger::server {

class JobService;

struct FleetOptions {
  LeaseTerms lease;
  // From Prepare to Prepared, before the reservation is given back.
  absl::Duration prepare_timeout = absl::Seconds(60);
  int64_t term = 0;
  int64_t generation = 0;
  // URIs that workers look for (Catalog::uris).
  std::set<std::string> catalog_uris;
  // Calls back once what the task shipped can be read; empty: at once.
  std::function<void(const liger::trainer::v1::Ref&, std::function<void()>)> settle_bulk;
  // Since an arbitrary start; never goes back. Default: CLOCK_MONOTONIC.
  std::function<absl::Duration()> monotonic_now;
};

// The workers that are there: their sessions, their leases, and the handshake
// that brings a task up (Prepare, Prepared, Start). Everything in memory; what
// must last, and every decision, is JobService's. Heartbeats are answered from
// memory, whatever the store does.
//
// Threads: every method may be called from any thread and does not wait.
// JobService and links are called without the lock held.
class Fleet : public FleetPort, public WorkerMessageHandler {
 public:
  explicit Fleet(FleetOptions options);
  ~Fleet() override;

  // Gives every worker in `known` that is READY a full lease from now on: the
  // time in which the coordinator was down counts against no worker. Call
  // before the worker port opens, after `jobs` has started. `jobs` outlives it.
  void Start(JobService* jobs, const std::vector<WorkerRow>& known) ABSL_LOCKS_EXCLUDED(mutex_);

  // Ends all sessions; workers connect again.
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_);

  // Time passes: leases that ran out, workers that did not prepare in time.
  void Tick() ABSL_LOCKS_EXCLUDED(mutex_);

  struct WorkerView {
    bool connected = false;
    bool draining = false;
    std::string unfit;                                 // why it gets nothing; empty: it may
    absl::Time last_heartbeat = absl::InfinitePast();  // wall clock
  };
  std::map<std::string, WorkerView> Workers() const ABSL_LOCKS_EXCLUDED(mutex_);
  // The worker's state for people: of those that are READY in the store, some drain or are unfit.
  static WorkerState StateOf(const WorkerRow& row, const std::map<std::string, WorkerView>& live);
  // Since this task last got on, by its worker's last heartbeat; nullopt: none
  // has told of it.
  std::optional<absl::Duration> IdleTime(const liger::trainer::v1::Ref& ref) const
      ABSL_LOCKS_EXCLUDED(mutex_);

  // FleetPort
  bool IsConnected(const std::string& worker_id) const override ABSL_LOCKS_EXCLUDED(mutex_);
  bool TakesTasks(const std::string& worker_id) const override ABSL_LOCKS_EXCLUDED(mutex_);
  std::string WhyUnfit(const std::string& worker_id) const override ABSL_LOCKS_EXCLUDED(mutex_);
  void Disconnect(const std::string& worker_id, const std::string& reason) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  void StartGang(const std::vector<TaskStart>& members) override ABSL_LOCKS_EXCLUDED(mutex_);
  void StopTask(const TaskStop& stop, double grace_seconds, const std::string& reason) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  void PauseTask(const TaskStop& stop) override ABSL_LOCKS_EXCLUDED(mutex_);
  void AckEvents(const std::string& worker_id, const liger::trainer::v1::Ref& ref,
                 int64_t through_seq) override ABSL_LOCKS_EXCLUDED(mutex_);
  void AnswerPublish(const PublishAnswer& answer) override ABSL_LOCKS_EXCLUDED(mutex_);
  void Look(const std::string& worker_id, int64_t id) override ABSL_LOCKS_EXCLUDED(mutex_);
  void Reclaim(const std::string& worker_id, const std::vector<ReclaimRow>& outputs) override
      ABSL_LOCKS_EXCLUDED(mutex_);

  // WorkerMessageHandler
  void OnMessage(const std::shared_ptr<WorkerLink>& link,
                 liger::worker::v1::WorkerMessage message) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnClosed(const std::shared_ptr<WorkerLink>& link) override ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // A gang between the first Prepare and the last Prepared.
  struct Gang {
    std::vector<std::string> workers;
    size_t awaited = 0;                // have not prepared it yet
    liger::worker::v1::Master master;  // as the worker of rank 0 said
    absl::Duration deadline;
  };
  // One worker's part of it.
  struct Preparing {
    TaskStart start;
    std::shared_ptr<Gang> gang;
    bool prepared = false;
  };
  struct Worker {
    int64_t incarnation = 0;
    std::shared_ptr<WorkerLink> link;  // null: not connected
    bool welcomed = false;             // Welcome was sent on `link`
    bool draining = false;             // as it said last
    std::string unfit;                 // as it said last
    // Absent: the worker is lost, or has not been welcomed yet.
    std::optional<absl::Duration> last_heartbeat;
    absl::Time last_heartbeat_wall = absl::InfinitePast();
    std::map<std::string, Preparing> preparing;  // by ref
    // When the tasks of the last heartbeat last got on, by ref.
    std::map<std::string, absl::Duration> got_on;
    // Prepared in an earlier session and given up with it: their reservations
    // must go.
    std::vector<liger::trainer::v1::Ref> to_abort;
  };
  using Outgoing =
      std::vector<std::pair<std::shared_ptr<WorkerLink>, liger::worker::v1::CoordinatorMessage>>;
  // A gang that does not start, because of this member.
  struct GivenUp {
    TaskStart start;
    Outgoing aborts;
  };
  // A session that ended: its link, and the gangs that do not start without it.
  struct Ended {
    std::shared_ptr<WorkerLink> link;
    std::vector<GivenUp> unstarted;
  };

  void OnHello(const std::shared_ptr<WorkerLink>& link, const liger::worker::v1::Hello& hello)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Checks the Hello and makes `link` the worker's session. The one it replaces,
  // if any, is in `replaced`.
  absl::Status Register(const std::shared_ptr<WorkerLink>& link,
                        const liger::worker::v1::Hello& hello, Ended* replaced)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Takes the worker's session, if it has one, out of the books.
  Ended Detach(Worker* worker) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Notes a Prepared: the gang's Starts with the last one.
  Outgoing NotePrepared(Preparing* preparing, const liger::worker::v1::Master& master)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes the gang out of the books of all its workers, with an Abort for each but
  // `except`, now or after its next Hello.
  GivenUp GiveUp(const Preparing& preparing, const std::string& except)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Sends the aborts and tells JobService.
  void Report(const GivenUp& given_up, const std::string& reason) ABSL_LOCKS_EXCLUDED(mutex_);
  // Those whose time is up.
  std::vector<GivenUp> GiveUpLate() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Closes the link and gives up what it did not start.
  void Finish(const Ended& ended, const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_);
  void Welcome(const std::shared_ptr<WorkerLink>& link, const std::string& worker_id,
               const std::vector<liger::worker::v1::Verdict>& verdicts) ABSL_LOCKS_EXCLUDED(mutex_);
  void OnHeartbeat(const std::shared_ptr<WorkerLink>& link, const std::string& worker_id,
                   liger::worker::v1::Heartbeat heartbeat) ABSL_LOCKS_EXCLUDED(mutex_);
  void OnPrepared(const std::shared_ptr<WorkerLink>& link, const std::string& worker_id,
                  const liger::worker::v1::Prepared& prepared) ABSL_LOCKS_EXCLUDED(mutex_);
  // An exit waits for those of the task's steps that have come: who sees the job's end finds them.
  void OnEvent(const std::shared_ptr<WorkerLink>& link, const std::string& worker_id,
               const liger::worker::v1::TaskEvent& event) ABSL_LOCKS_EXCLUDED(mutex_);
  void OnRefused(const std::string& worker_id, const liger::worker::v1::Refused& refused)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // The worker whose current session is `link`; null when there is none.
  Worker* FindByLink(const std::shared_ptr<WorkerLink>& link, std::string* worker_id)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SendTo(const std::string& worker_id, const liger::worker::v1::CoordinatorMessage& message)
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Duration Now() const { return options_.monotonic_now(); }

  const FleetOptions options_;
  JobService* jobs_ = nullptr;  // set once by Start

  mutable absl::Mutex mutex_;
  std::map<std::string, Worker> workers_ ABSL_GUARDED_BY(mutex_);
  std::map<const WorkerLink*, std::string> worker_of_link_ ABSL_GUARDED_BY(mutex_);
  absl::Duration last_tick_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace liger::server

#endif  // LIGER_SERVER_FLEET_FLEET_H_
