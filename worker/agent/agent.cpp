#include "worker/agent/agent.h"

#include <stdlib.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "worker/agent/build.h"
#include "worker/agent/channel.h"
#include "worker/agent/fitness.h"
#include "worker/agent/log.h"
#include "worker/agent/steady_time.h"

namespace liger::agent {

using worker::v1::WorkerMessage;

namespace {

constexpr absl::Duration kTick = absl::Milliseconds(50);
// After the trainers have ended at SIGTERM, their exits get this long to be
// acknowledged; the spool keeps them otherwise.
constexpr absl::Duration kReportTimeout = absl::Seconds(3);
constexpr absl::Duration kDeviceCheckInterval = absl::Seconds(2);
// A coordinator that takes this long to answer a Hello is not there.
constexpr absl::Duration kWelcomeTimeout = absl::Seconds(10);

absl::Status OpenRoot(const std::string& path, std::optional<Root>& root) {
  absl::StatusOr<Root> opened = Root::Open(path);
  if (!opened.ok()) return opened.status();
  root.emplace(*std::move(opened));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Agent>> Agent::Create(Options options) {
  std::unique_ptr<Agent> agent(new Agent(std::move(options)));
  if (absl::Status s = agent->Init(); !s.ok()) return s;
  return agent;
}

Agent::~Agent() {
  session_.reset();
  inventory_thread_.reset();
  shipper_.reset();
  publish_thread_.reset();
}

absl::Status Agent::Init() {
  absl::StatusOr<std::unique_ptr<Identity>> identity = Identity::Load(options_.data_dir);
  if (!identity.ok()) return identity.status();
  identity_ = *std::move(identity);
  if (absl::Status s = OpenRoot(options_.model_root, model_root_); !s.ok()) return s;
  if (absl::Status s = OpenRoot(options_.dataset_root, dataset_root_); !s.ok()) return s;
  if (absl::Status s = OpenRoot(options_.output_root, output_root_); !s.ok()) return s;
  for (const std::string& path : options_.allow_paths) {
    absl::StatusOr<Root> root = Root::Open(path);
    if (!root.ok()) return root.status();
    allowed_roots_.push_back(*std::move(root));
  }
  absl::StatusOr<std::shared_ptr<grpc::Channel>> channel = MakeChannel(options_);
  if (!channel.ok()) return channel.status();

  build_ = BuildOf(options_.trainer);
  nvml_ = Nvml::Load();
  std::vector<std::string> missing;
  absl::StatusOr<std::vector<GpuInfo>> gpus = VisibleGpus(
      nvml_ ? nvml_->Gpus() : std::vector<GpuInfo>(), getenv("CUDA_VISIBLE_DEVICES"), &missing);
  if (!gpus.ok()) return gpus.status();
  if (!missing.empty()) {
    LogWarning("CUDA_VISIBLE_DEVICES names GPUs that this host does not have now: ",
               absl::StrJoin(missing, ", "));
  }
  ledger_.emplace(ProbeDevices(*gpus, identity_->worker_id(), options_.cpu_slots));
  archive_.emplace(options_.data_dir, options_.keep_failed_count, options_.keep_failed_for);
  archive_->Prune();
  absl::StatusOr<RankPorts> ports = RankPorts::Parse(options_.rank_ports);
  if (!ports.ok()) return ports.status();
  ports_.emplace(*std::move(ports));
  reservations_.emplace(&*ledger_, &*ports_, options_.advertise_address);
  absl::StatusOr<std::unique_ptr<AgentMetrics>> metrics =
      AgentMetrics::Create(options_, *identity_, nvml_.get());
  if (!metrics.ok()) return metrics.status();
  metrics_ = *std::move(metrics);
  spawner_ = std::make_unique<Spawner>();
  publish_thread_ = std::make_unique<PublishThread>();
  shipper_ = std::make_unique<LogShipper>(*channel, identity_->worker_id());

  services_ = {.options = &options_,
               .identity = identity_.get(),
               .lease = &lease_,
               .model_root = &*model_root_,
               .dataset_root = &*dataset_root_,
               .output_root = &*output_root_,
               .ledger = &*ledger_,
               .ports = &*ports_,
               .nvml = nvml_.get(),
               .archive = &*archive_,
               .spawner = spawner_.get(),
               .shipper = shipper_.get(),
               .publish_thread = publish_thread_.get(),
               .check_devices = [this] { CheckDevices(); },
               .post_to_task = [this](const std::string& key, std::function<void(TaskRunner&)> f) {
                 loop_.Post([this, key, f = std::move(f)] {
                   if (TaskRunner* task = tasks_->FindByKey(key)) f(*task);
                 });
               }};
  for (const Root& root : allowed_roots_) services_.allowed_roots.push_back(&root);
  tasks_.emplace(services_);
  tasks_->Recover();
  const auto code = std::make_shared<TrainerCode>(spawner_.get(), options_.trainer);
  if (tasks_->size() == 0) {
    // Before any task comes; the inventory's thread finds it answered. Those that run already need
    // the coordinator first.
    LogInfo("asking ", options_.trainer, " whether it starts");
    SetUnfit(FindFault(code.get()));
  }
  StartStreams(*std::move(channel), code);
  return absl::OkStatus();
}

void Agent::StartStreams(std::shared_ptr<grpc::Channel> channel,
                         std::shared_ptr<TrainerCode> code) {
  inventory_thread_ = std::make_unique<InventoryThread>(
      Inventory(&*model_root_, &*dataset_root_), options_.inventory_interval,
      [this, code] {
        loop_.Post([this, why = FindFault(code.get())] { SetUnfit(why); });
        return code->Digest();
      },
      [this](InventoryThread::Items items) {
        loop_.Post([this, items = std::move(items)]() mutable {
          inventory_ = std::move(items);
          inventory_changed_ = true;
          next_heartbeat_ = absl::InfinitePast();  // it tells the coordinator
        });
      },
      [this](int64_t look) {
        loop_.Post([this, look] {
          if (look > look_) return;  // an earlier session's
          looked_ = look;
          next_heartbeat_ = absl::InfinitePast();
        });
      });
  session_ = std::make_unique<Session>(
      std::move(channel),
      Session::Callbacks{
          // Its thread, as the coordinator's name is looked up. At Welcome that name has an
          // address, if it ever has.
          .opened =
              [this](int64_t id) {
                loop_.Post([this, id, derived = AdvertisedBy(options_)] {
                  Advertise(derived);
                  OnStreamOpened(id);
                });
              },
          .received =
              [this](int64_t id, worker::v1::CoordinatorMessage message) {
                if (message.has_welcome()) {
                  loop_.Post([this, derived = AdvertisedBy(options_)] { derived_ = derived; });
                }
                loop_.Post([this, id, message = std::move(message)] { OnMessage(id, message); });
              },
          .closed =
              [this](int64_t id, absl::Status status) {
                loop_.Post([this, id, status] { OnStreamClosed(id, status); });
              }});
  LogInfo("worker ", identity_->worker_id(), " with ", ledger_->devices().size(),
          " device(s), coordinator ", options_.coordinator);
}

std::string Agent::FindFault(TrainerCode* code) const {
  code->Digest();
  if (!code->fault().empty()) return code->fault();
  std::string fault = DataFolderFault(options_.data_dir);
  return fault.empty() ? InterfaceFault(options_.socket_interface) : fault;
}

void Agent::SetUnfit(const std::string& why) {
  if (why == unfit_) return;
  unfit_ = why;
  if (why.empty()) {
    LogInfo("tasks can run here again");
  } else {
    LogError("no task can run here: ", why);
  }
  next_heartbeat_ = absl::InfinitePast();
}

void Agent::Run() {
  loop_.Run(kTick, [this] { Tick(); });
}

void Agent::Shutdown() {
  loop_.Post([this] {
    if (shutdown_deadline_) return;
    LogInfo("shutting down");
    Drain();
    tasks_->ForEach([this](TaskRunner& task) {
      if (task.running()) {
        task.Vacate(options_.stop_grace,
                    absl::StrCat("worker ", identity_->worker_id(), " was shut down"));
      }
    });
    shutdown_deadline_ = SteadyNow() + options_.stop_grace + kReportTimeout;
  });
}

void Agent::Drain() {
  draining_ = true;
  // At once: the next attempt of a task that ends here must not be offered here.
  next_heartbeat_ = absl::InfinitePast();
  if (welcomed_) SendHeartbeatIfDue(SteadyNow());
}

void Agent::Tick() {
  const absl::Time now = SteadyNow();
  reservations_->Expire(now);
  if (now >= next_device_check_) {
    next_device_check_ = now + kDeviceCheckInterval;
    CheckDevices();
  }
  tasks_->Tick(now, welcomed_);
  if (welcomed_) {
    // First: that a device failed is known when the end comes that it led to.
    SendHeartbeatIfDue(now);
    if (welcomed_) tasks_->SendEvents([this](WorkerMessage message) { Send(std::move(message)); });
  } else {
    CheckWelcome(now);
  }
  CheckOrphaned(now);
  UpdateMetrics(now);
  CheckShutdown(now);
}

void Agent::CheckDevices() {
  if (nvml_ == nullptr) return;
  for (const auto& [uuid, fault] : nvml_->Faults()) {
    if (!ledger_->NoteFault(uuid, fault)) continue;
    LogError("device ", uuid, " failed: ", fault, "; no task gets it any more");
    next_heartbeat_ = absl::InfinitePast();
  }
}

void Agent::CheckWelcome(absl::Time now) {
  if (stream_id_ == 0 || now - hello_sent_ < kWelcomeTimeout) return;
  LogWarning("no Welcome from ", options_.coordinator, " within ",
             absl::FormatDuration(kWelcomeTimeout), ": connecting again");
  hello_sent_ = now;
  session_->Close(stream_id_);
}

void Agent::SendHeartbeatIfDue(absl::Time now) {
  // Silence on an open stream: perhaps a dead connection that TCP still
  // believes in. A new one shows.
  if (lease_.Fenced(now)) {
    LogWarning("no heartbeat was acknowledged for ", absl::FormatDuration(lease_.fence()),
               ": fenced, connecting again");
    welcomed_ = false;
    return session_->Close(stream_id_);
  }
  if (now < next_heartbeat_) return;
  next_heartbeat_ = now + lease_.heartbeat_interval();
  WorkerMessage message;
  worker::v1::Heartbeat* heartbeat = message.mutable_heartbeat();
  heartbeat->set_seq(++heartbeat_seq_);
  heartbeat->set_draining(draining_);
  heartbeat->set_unfit(unfit_);
  for (auto& status : tasks_->Statuses(now)) *heartbeat->add_tasks() = std::move(status);
  for (const auto& device : ledger_->devices()) {
    if (device.fault().empty()) continue;
    worker::v1::DeviceFault* fault = heartbeat->add_device_faults();
    fault->set_device_uuid(device.uuid());
    fault->set_fault(device.fault());
  }
  heartbeat->set_looked(looked_);
  if (std::exchange(inventory_changed_, false)) {
    heartbeat->set_inventory_changed(true);
    heartbeat->mutable_inventory()->Assign(inventory_.begin(), inventory_.end());
  }
  lease_.HeartbeatSent(heartbeat_seq_, now);
  Send(std::move(message));
}

void Agent::CheckOrphaned(absl::Time now) {
  if (!lease_.Orphaned(now)) return;
  tasks_->ForEach([this](TaskRunner& task) {
    if (task.running() && task.spool().stop_reason().empty()) {
      task.Fail(options_.stop_grace, "the coordinator was away for longer than orphan_timeout");
    }
  });
}

void Agent::CheckShutdown(absl::Time now) {
  if (!shutdown_deadline_) return;
  const bool reported = !tasks_->AnyRunning() && tasks_->AllDrained();
  if (!reported && now < *shutdown_deadline_) return;
  session_->Flush(absl::Milliseconds(200));
  loop_.Stop();
}

void Agent::UpdateMetrics(absl::Time now) {
  AgentMetrics::Snapshot snapshot;
  snapshot.connected = welcomed_;
  snapshot.fenced = lease_.Fenced(now);
  snapshot.draining = draining_;
  snapshot.spooled_events = tasks_->PendingEvents();
  for (const auto& device : ledger_->devices()) {
    snapshot.devices.push_back({device, !ledger_->Holder(device.uuid()).empty()});
  }
  for (const auto& status : tasks_->Statuses(now)) ++snapshot.tasks_by_phase[status.phase()];
  metrics_->Update(snapshot, now);
}

void Agent::Send(WorkerMessage message) { session_->Send(stream_id_, std::move(message)); }

}  // namespace liger::agent
