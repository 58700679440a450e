#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/model_shapes/model_shapes.h"
#include "server/api/fine_tuning_service.h"
#include "server/api/reply.h"
#include "server/scheduler/scheduler.h"

namespace liger::server {
namespace {

google::protobuf::Timestamp FromTime(absl::Time time) {
  return ToTimestamp(absl::ToUnixMicros(time));
}

std::string DisplayName(const std::vector<WorkerRow>& workers, const WorkerRow& worker) {
  const std::string& host = worker.hello.host_name();
  if (host.empty()) return worker.worker_id;
  const auto on_host = std::count_if(workers.begin(), workers.end(), [&](const WorkerRow& other) {
    return other.hello.host_name() == host;
  });
  return on_host == 1 ? host : absl::StrCat(host, "-", worker.worker_id.substr(0, 8));
}

// Job names by device, of one worker.
std::map<std::string, std::string> Holders(const ReadView& view, const std::string& worker_id) {
  std::map<std::string, std::string> holders;
  for (const MemberRow& member : view.UnreleasedMembers(worker_id)) {
    const std::optional<JobRow> job = view.Job(member.job_uid);
    for (const std::string& uuid : member.device_uuids) {
      holders[uuid] = job.has_value() ? job->name : member.job_uid;
    }
  }
  return holders;
}

liger::v1::Worker ToWorker(const ReadView& view, const WorkerRow& row) {
  liger::v1::Worker worker;
  worker.set_worker_id(row.worker_id);
  worker.set_advertise_address(row.hello.advertise_address());
  worker.set_version(row.hello.build());
  const std::map<std::string, std::string> holders = Holders(view, row.worker_id);
  for (const liger::worker::v1::DeviceInfo& info : row.hello.devices()) {
    liger::v1::Device* device = worker.add_devices();
    device->set_uuid(info.uuid());
    device->set_kind(info.kind());
    device->set_model(info.model());
    device->set_memory_bytes(info.memory_bytes());
    device->set_fault(info.fault());
    if (const auto it = holders.find(info.uuid()); it != holders.end()) {
      device->set_job_name(it->second);
    }
  }
  std::set<std::string> jobs;
  for (const auto& [uuid, name] : holders) jobs.insert(name);
  worker.mutable_job_names()->Assign(jobs.begin(), jobs.end());
  return worker;
}

// Fills present_on, and the hint when nobody has the entry.
template <typename Entry>
Entry WithPresence(Entry entry, const std::vector<WorkerRow>& workers,
                   bool (*has)(const WorkerRow&, const std::string&),
                   std::string (*refusal)(const WorkerRow&, const std::string&),
                   const std::string& (liger::worker::v1::Hello::*root)() const) {
  std::string example_root;
  for (const WorkerRow& worker : workers) {
    if (worker.state == WorkerState::kLost) continue;
    if (has(worker, entry.uri())) entry.add_present_on(worker.worker_id);
    if (entry.hint().empty()) entry.set_hint(refusal(worker, entry.uri()));
    if (example_root.empty()) example_root = (worker.hello.*root)();
  }
  if (entry.present_on_size() == 0 && entry.hint().empty()) {
    entry.set_hint(absl::StrCat("on no worker; put it at ",
                                example_root.empty() ? "" : absl::StrCat(example_root, "/"),
                                entry.uri()));
  } else if (entry.present_on_size() > 0) {
    entry.clear_hint();
  }
  return entry;
}

}  // namespace

grpc::ServerUnaryReactor* FineTuningService::ListWorkers(
    grpc::CallbackServerContext* context, const liger::v1::ListWorkersRequest* request,
    liger::v1::ListWorkersResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  b_.store->Read<liger::v1::ListWorkersResponse>(
      [fleet = b_.fleet](const ReadView& view) -> absl::StatusOr<liger::v1::ListWorkersResponse> {
        const std::map<std::string, Fleet::WorkerView> live = fleet->Workers();
        liger::v1::ListWorkersResponse list;
        const std::vector<WorkerRow> rows = view.Workers();
        for (const WorkerRow& row : rows) {
          liger::v1::Worker* worker = list.add_workers();
          *worker = ToWorker(view, row);
          worker->set_name(DisplayName(rows, row));
          worker->set_state(WorkerStateName(Fleet::StateOf(row, live)));
          const auto it = live.find(row.worker_id);
          if (it != live.end() && row.state == WorkerState::kReady) {
            worker->set_unfit(it->second.unfit);
          }
          if (it != live.end() && it->second.last_heartbeat != absl::InfinitePast()) {
            *worker->mutable_last_heartbeat_time() = FromTime(it->second.last_heartbeat);
          }
        }
        return list;
      },
      ReplyTo(reactor, response));
  return reactor;
}

grpc::ServerUnaryReactor* FineTuningService::ListModels(grpc::CallbackServerContext* context,
                                                        const liger::v1::ListModelsRequest* request,
                                                        liger::v1::ListModelsResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  b_.store->Read<liger::v1::ListModelsResponse>(
      [catalog =
           b_.catalog](const ReadView& view) -> absl::StatusOr<liger::v1::ListModelsResponse> {
        const std::vector<WorkerRow> workers = view.Workers();
        liger::v1::ListModelsResponse list;
        for (const liger::v1::CatalogModel& model : catalog->models()) {
          liger::v1::CatalogModel* shown = list.add_models();
          *shown = WithPresence(model, workers, &HasModel, &ModelRefusal,
                                &liger::worker::v1::Hello::model_root);
          if (shown->present_on_size() == 0 && FindModelShape(shown->name()) != nullptr) {
            shown->mutable_hint()->append("; model.random_init needs no folder");
          }
        }
        return list;
      },
      ReplyTo(reactor, response));
  return reactor;
}

grpc::ServerUnaryReactor* FineTuningService::ListDatasets(
    grpc::CallbackServerContext* context, const liger::v1::ListDatasetsRequest* request,
    liger::v1::ListDatasetsResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  b_.store->Read<liger::v1::ListDatasetsResponse>(
      [catalog =
           b_.catalog](const ReadView& view) -> absl::StatusOr<liger::v1::ListDatasetsResponse> {
        const std::vector<WorkerRow> workers = view.Workers();
        liger::v1::ListDatasetsResponse list;
        for (const liger::v1::CatalogDataset& dataset : catalog->datasets()) {
          *list.add_datasets() = WithPresence(dataset, workers, &HasDataset, &DatasetRefusal,
                                              &liger::worker::v1::Hello::dataset_root);
        }
        return list;
      },
      ReplyTo(reactor, response));
  return reactor;
}

}  // namespace liger::server
