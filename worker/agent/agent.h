#ifndef LIGER_WORKER_AGENT_AGENT_H_
#define LIGER_WORKER_AGENT_AGENT_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "liger/worker/v1/worker.pb.h"
#include "worker/agent/advertised.h"
#include "worker/agent/agent_metrics.h"
#include "worker/agent/inventory_thread.h"
#include "worker/agent/reservations.h"
#include "worker/agent/services.h"
#include "worker/agent/session.h"
#include "worker/agent/task_table.h"
#include "worker/agent/trainer_code.h"

namespace liger::agent {

// liger-worker: holds the lease, obeys the coordinator, and answers for the
// trainers on this host. All state belongs to the thread in Run().
class Agent {
 public:
  // Locks the data folder, finds the devices, clears what an earlier agent
  // left. Errors are ready to be shown.
  static absl::StatusOr<std::unique_ptr<Agent>> Create(Options options);
  ~Agent();

  // Until Shutdown() has stopped the trainers and their ends are reported, or
  // could not be reported in time.
  void Run();
  // Thread-safe.
  void Shutdown();

 private:
  explicit Agent(Options options) : options_(std::move(options)) {}
  absl::Status Init();
  void StartStreams(std::shared_ptr<grpc::Channel> channel, std::shared_ptr<TrainerCode> code);
  // Starts nothing new from now on, and tells the coordinator so.
  void Drain();
  void Tick();
  void CheckWelcome(absl::Time now);
  void SendHeartbeatIfDue(absl::Time now);
  void CheckOrphaned(absl::Time now);
  void CheckShutdown(absl::Time now);
  void UpdateMetrics(absl::Time now);
  // Why no task can run here now; empty: it can. Asks the trainer, so it may take seconds. Any
  // one thread.
  std::string FindFault(TrainerCode* code) const;
  void SetUnfit(const std::string& why);
  // Takes the address at which other workers reach this one from now on.
  void Advertise(const Advertised& derived);
  // Notes devices that failed, and tells the coordinator at once.
  void CheckDevices();
  void Send(worker::v1::WorkerMessage message);

  void OnStreamOpened(int64_t stream_id);
  void OnStreamClosed(int64_t stream_id, const absl::Status& status);
  void OnMessage(int64_t stream_id, const worker::v1::CoordinatorMessage& message);
  worker::v1::WorkerMessage MakeHello() const;

  void OnWelcome(const worker::v1::Welcome& welcome);
  void Obey(const worker::v1::Verdict& verdict);
  void OnPrepare(worker::v1::Prepare prepare);
  void OnStart(const worker::v1::Start& start);
  void OnControl(const worker::v1::Control& control);
  void OnReclaim(const worker::v1::Reclaim& reclaim);
  // Why nothing new may begin here; empty: it may.
  std::string ReasonToRefuse() const;
  void SendPrepared(const trainer::v1::Ref& ref, const worker::v1::Master& master);
  void Refuse(const trainer::v1::Ref& ref, const std::string& reason, bool unfit = false);

  const Options options_;
  std::unique_ptr<Identity> identity_;
  std::optional<Root> model_root_, dataset_root_, output_root_;
  std::vector<Root> allowed_roots_;
  std::string build_;
  std::unique_ptr<Nvml> nvml_;
  std::optional<DeviceLedger> ledger_;
  std::optional<RankPorts> ports_;
  absl::Time next_device_check_ = absl::InfinitePast();
  std::optional<AttemptArchive> archive_;
  Lease lease_;
  EventLoop loop_;
  Services services_;
  std::optional<Reservations> reservations_;
  std::optional<TaskTable> tasks_;
  std::vector<worker::v1::InventoryItem> inventory_;
  bool inventory_changed_ = false;
  int64_t look_ = 0;    // the newest Look of this session
  int64_t looked_ = 0;  // the newest of them that inventory_ answers

  int64_t stream_id_ = 0;  // 0: none open
  bool welcomed_ = false;
  absl::Time hello_sent_;
  std::string last_refusal_;  // why there was no session, as logged
  int64_t heartbeat_seq_ = 0;
  absl::Time next_heartbeat_ = absl::InfinitePast();
  bool draining_ = false;
  std::string unfit_;  // as told in heartbeats
  Advertised advertised_, derived_;  // as it was told, as the session's thread found it last
  std::optional<absl::Time> shutdown_deadline_;

  // Threads; ended, in reverse order, before what they post to.
  std::unique_ptr<AgentMetrics> metrics_;
  std::unique_ptr<Spawner> spawner_;
  std::unique_ptr<PublishThread> publish_thread_;
  std::unique_ptr<LogShipper> shipper_;
  std::unique_ptr<InventoryThread> inventory_thread_;
  std::unique_ptr<Session> session_;
};

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_AGENT_H_
