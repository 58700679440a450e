#include "server/coordinator/coordinator.h"

#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/address.h"
#include "common/clock.h"
#include "common/file.h"
#include "google/protobuf/struct.pb.h"
#include "google/protobuf/util/json_util.h"

namespace liger::server {
namespace {

constexpr absl::Duration kTick = absl::Milliseconds(100);
constexpr absl::Duration kPokeInterval = absl::Milliseconds(500);
constexpr absl::Duration kMetricsInterval = absl::Seconds(1);
// The store's answer comes every kMetricsInterval; one this old is none.
constexpr absl::Duration kStoreSilence = absl::Seconds(10);
constexpr absl::Duration kShutdownGrace = absl::Milliseconds(700);

}  // namespace

absl::Status CoordinatorOptions::Validate() const {
  if (data_dir.empty()) return absl::InvalidArgumentError("--data-dir must be set");
  if (absl::Status status = lease.Validate(); !status.ok()) return status;
  if (absl::Status status = CheckListenAddress(listen, "--listen"); !status.ok()) return status;
  if (absl::Status status = CheckListenAddress(worker_listen, "--worker-listen"); !status.ok()) {
    return status;
  }
  if (metrics_listen.empty()) return absl::OkStatus();
  if (absl::Status status = CheckListenAddress(metrics_listen, "--metrics-listen"); !status.ok()) {
    return status;
  }
  return CheckPlaintextAddress(metrics_listen, security.insecure);
}

absl::StatusOr<std::unique_ptr<Coordinator>> Coordinator::Start(const CoordinatorOptions& options) {
  return StartWith(options, nullptr);
}

absl::StatusOr<std::unique_ptr<Coordinator>> Coordinator::StartWith(
    const CoordinatorOptions& options, std::unique_ptr<Store> store) {
  if (absl::Status status = options.Validate(); !status.ok()) return status;
  auto coordinator = std::unique_ptr<Coordinator>(new Coordinator(options));
  if (absl::Status status = coordinator->Open(std::move(store)); !status.ok()) return status;
  if (absl::Status status = coordinator->Serve(); !status.ok()) return status;
  return coordinator;
}

Coordinator::Coordinator(const CoordinatorOptions& options)
    : options_(options),
      registry_(std::make_shared<prometheus::Registry>()),
      rpc_metrics_(registry_.get()),
      job_metrics_(registry_.get()),
      experiment_metrics_(registry_.get()),
      fleet_metrics_(registry_.get()),
      catalog_(Catalog::Default()),
      logs_(absl::StrCat(options.data_dir, "/logs")),
      files_(2) {}

Coordinator::~Coordinator() { Shutdown(); }

std::string Coordinator::metrics_address() const {
  if (metrics_server_ == nullptr) return "";
  return absl::StrCat(options_.metrics_listen.substr(0, options_.metrics_listen.rfind(':')), ":",
                      metrics_server_->port());
}

absl::Status Coordinator::OpenCatalog() {
  if (options_.catalog_file.empty()) return absl::OkStatus();
  absl::StatusOr<Catalog> catalog = Catalog::FromFile(options_.catalog_file);
  if (!catalog.ok()) return catalog.status();
  catalog_ = *std::move(catalog);
  return absl::OkStatus();
}

absl::Status Coordinator::Open(std::unique_ptr<Store> store) {
  if (absl::Status status = OpenCatalog(); !status.ok()) return status;
  if (absl::Status status = MakeFolders(options_.data_dir); !status.ok()) return status;
  if (store != nullptr) {
    store_ = std::move(store);
  } else {
    absl::StatusOr<std::unique_ptr<Store>> opened =
        OpenSqliteStore(options_.data_dir, options_.store);
    if (!opened.ok()) return opened.status();
    store_ = *std::move(opened);
  }

  feed_ = std::make_unique<MetricsFeed>(store_.get(), &job_metrics_, &experiment_metrics_,
                                        &fleet_metrics_);
  if (absl::Status status = feed_->Resume(); !status.ok()) return status;
  hub_.Add([this](const std::vector<JobChange>& changes) { feed_->OnChanges(changes); });
  store_->SetCommitListener([this](const std::vector<JobChange>& c) { hub_.Publish(c); });

  bulk_ = std::make_unique<BulkIntake>(store_.get(), &logs_, &job_metrics_,
                                       options_.metrics_flush_interval);
  JobServiceOptions job_options = options_.jobs;
  job_options.remove_log_files = [this](const std::vector<LogFileRow>& files) {
    std::set<std::string> uids;
    for (const LogFileRow& file : files) uids.insert(file.job_uid);
    files_.Run([this, uids] {
      for (const std::string& uid : uids) (void)logs_.Remove(uid);
    });
  };
  jobs_ = std::make_unique<JobService>(store_.get(), &catalog_, std::move(job_options));
  experiments_ = std::make_unique<ExperimentService>(
      store_.get(), jobs_.get(), options_.jobs,
      [this](const liger::v1::Experiment& experiment) { feed_->OnExperiment(experiment); });
  FleetOptions fleet_options;
  fleet_options.lease = options_.lease;
  fleet_options.prepare_timeout = options_.prepare_timeout;
  fleet_options.term = store_->term();
  fleet_options.generation = store_->generation();
  fleet_options.catalog_uris = catalog_.uris();
  fleet_options.settle_bulk = [this](const liger::trainer::v1::Ref& ref,
                                     std::function<void()> done) {
    bulk_->SettleEnd(ref, std::move(done));
  };
  fleet_ = std::make_unique<Fleet>(std::move(fleet_options));
  return jobs_->Start(fleet_.get());
}

absl::Status Coordinator::Serve() {
  const absl::StatusOr<std::vector<WorkerRow>> known = store_->ReadAndWait<std::vector<WorkerRow>>(
      [](const ReadView& view) -> absl::StatusOr<std::vector<WorkerRow>> {
        return view.Workers();
      });
  if (!known.ok()) return known.status();

  fleet_service_ = std::make_unique<FleetService>(fleet_.get(), bulk_.get());
  api_service_ = std::make_unique<FineTuningService>(ApiBackends{
      store_.get(), jobs_.get(), &catalog_, fleet_.get(), &logs_, &hub_, &streams_, &files_});
  experiments_api_ = std::make_unique<ExperimentsApi>(store_.get(), experiments_.get());
  fleet_->Start(jobs_.get(), *known);

  absl::StatusOr<std::unique_ptr<GrpcServer>> api =
      GrpcServer::Start({.address = options_.listen,
                         .flag = "--listen",
                         .security = options_.security,
                         .metrics = &rpc_metrics_},
                        {api_service_.get(), experiments_api_.get()});
  if (!api.ok()) return api.status();
  api_server_ = *std::move(api);
  absl::StatusOr<std::unique_ptr<GrpcServer>> worker =
      GrpcServer::Start({.address = options_.worker_listen,
                         .flag = "--worker-listen",
                         .security = options_.security,
                         .max_receive_bytes = FleetService::kMaxMessageBytes,
                         .metrics = &rpc_metrics_},
                        {fleet_service_.get()});
  if (!worker.ok()) return worker.status();
  worker_server_ = *std::move(worker);
  if (!options_.metrics_listen.empty()) {
    absl::StatusOr<std::unique_ptr<MetricsServer>> metrics =
        MetricsServer::Start(options_.metrics_listen, registry_);
    if (!metrics.ok()) return metrics.status();
    metrics_server_ = *std::move(metrics);
  }
  ticker_ = std::thread([this] { TickLoop(); });
  return WritePortsFile();
}

absl::Status Coordinator::WritePortsFile() const {
  if (options_.ports_file.empty()) return absl::OkStatus();
  google::protobuf::Struct ports;
  (*ports.mutable_fields())["api"].set_string_value(api_address());
  (*ports.mutable_fields())["worker"].set_string_value(worker_address());
  (*ports.mutable_fields())["metrics"].set_string_value(metrics_address());
  std::string json;
  if (!google::protobuf::util::MessageToJsonString(ports, &json).ok()) {
    return absl::InternalError("cannot write the ports as JSON");
  }
  return WriteFileAtomically(options_.ports_file, absl::StrCat(json, "\n"));
}

void Coordinator::TickLoop() {
  absl::Duration last_poke = -absl::InfiniteDuration();
  absl::Duration last_metrics = -absl::InfiniteDuration();
  while (true) {
    {
      absl::MutexLock lock(&mutex_);
      if (mutex_.AwaitWithTimeout(absl::Condition(&stopping_), kTick)) return;
    }
    fleet_->Tick();
    jobs_->Tick();
    experiments_->Tick();
    bulk_->Tick();
    const absl::Duration now = Clock::Real()->Elapsed();
    if (now - last_poke >= kPokeInterval) {
      last_poke = now;
      streams_.PokeAll();
    }
    if (now - last_metrics >= kMetricsInterval) {
      last_metrics = now;
      feed_->Refresh(*fleet_);
      const bool ready = now - feed_->store_answered() < kStoreSilence;
      api_server_->SetReady(ready);
      worker_server_->SetReady(ready);
    }
  }
}

void Coordinator::Shutdown() {
  if (std::exchange(shut_down_, true)) return;
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  if (ticker_.joinable()) ticker_.join();
  // Streams end with a status that says "come back"; what is in progress gets a
  // moment, then is cut.
  streams_.EndAll();
  if (fleet_ != nullptr) fleet_->Stop();
  if (experiments_ != nullptr) experiments_->Stop();
  // Answers the dry runs, which the API server would wait for.
  if (jobs_ != nullptr) jobs_->Stop();
  if (api_server_ != nullptr) api_server_->Shutdown(kShutdownGrace);
  if (worker_server_ != nullptr) worker_server_->Shutdown(kShutdownGrace);
  if (bulk_ != nullptr) bulk_->Stop();
  metrics_server_.reset();
  // Completes what is queued; callbacks into the parts above still run.
  store_.reset();
  hub_.Stop();
  files_.Shutdown();
}

}  // namespace liger::server
