#include "server/scheduler/scheduler.h"

#include <algorithm>
#include <map>
#include <optional>
#include <tuple>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "common/model_shapes/model_shapes.h"

namespace liger::server {
namespace {

using liger::worker::v1::InventoryItem;

const InventoryItem* InInventory(const WorkerRow& worker, absl::string_view kind,
                                 const std::string& root, const std::string& uri) {
  const auto& items = worker.hello.inventory();
  const auto found = std::find_if(items.begin(), items.end(), [&](const InventoryItem& item) {
    return item.kind() == kind && SameUri(item.uri(), uri, root);
  });
  return found == items.end() ? nullptr : &*found;
}

const InventoryItem* Model(const WorkerRow& worker, const std::string& uri) {
  return InInventory(worker, "model", worker.hello.model_root(), uri);
}

const InventoryItem* Dataset(const WorkerRow& worker, const std::string& uri) {
  return InInventory(worker, "dataset", worker.hello.dataset_root(), uri);
}

std::string Refusal(const WorkerRow& worker, const InventoryItem* item) {
  if (item == nullptr || item->refused().empty()) return "";
  return absl::StrCat("worker ", worker.worker_id, " refuses it: ", item->refused());
}

const char* KindName(liger::v1::DeviceKind kind) {
  return kind == liger::v1::DEVICE_KIND_CUDA ? "GPU" : "CPU slot";
}

std::string Plural(int64_t count, absl::string_view noun) {
  return absl::StrCat(count, " ", noun, count == 1 ? "" : "s");
}

// What a job needs, read once.
struct Need {
  explicit Need(const JobRow& job)
      : job(&job),
        kind(job.resolved_spec.resources().device_kind()),
        count(std::max(1, job.resolved_spec.resources().count())),
        model_uri(job.resolved_spec.model().uri()),
        model_is_shape(NeedsNoModelFolder(job.resolved_spec)),
        dataset_uri(job.resolved_spec.dataset().uri()) {}

  const JobRow* job;
  liger::v1::DeviceKind kind;
  int count;
  std::string model_uri;
  bool model_is_shape;
  std::string dataset_uri;
};

// One pass over the jobs, oldest first. Decisions taken so far count as done.
class Pass {
 public:
  explicit Pass(const ScheduleSnapshot& snapshot) : snapshot_(snapshot) {
    for (const WorkerRow& worker : snapshot.workers) {
      if (worker.state == WorkerState::kReady && !worker.cordoned) ready_.push_back(&worker);
    }
    for (const MemberRow& member : snapshot.occupied) {
      for (const std::string& uuid : member.device_uuids) {
        holders_[{member.worker_id, uuid}] = member.job_uid;
      }
    }
    for (const TaskRow& task : snapshot.running_checks) {
      ++checks_[task.worker_id];
      checking_.insert(task.job_uid);
    }
    for (const auto& [uid, name] : snapshot.job_names) names_[uid] = name;
  }

  ScheduleDecisions Run() {
    std::vector<const JobRow*> jobs;
    for (const JobRow& job : snapshot_.jobs) jobs.push_back(&job);
    std::sort(jobs.begin(), jobs.end(), [](const JobRow* a, const JobRow* b) {
      return std::tie(a->created_us, a->uid) < std::tie(b->created_us, b->uid);
    });
    for (const JobRow* job : jobs) {
      if (job->state == liger::v1::JobStatus::VALIDATING) {
        if (!checking_.contains(job->uid)) Check(Need(*job));
      } else if (AwaitsPlacement(job->state)) {
        Place(Need(*job));
      }
    }
    return std::move(decisions_);
  }

 private:
  using DeviceKey = std::pair<std::string, std::string>;  // worker_id, uuid

  void Wait(const Need& need, const std::string& reason, const std::string& message,
            const std::string& action, bool can_never) {
    decisions_.waits.push_back({need.job->uid, reason, message, action, can_never});
  }

  bool IsCatalogued(const std::string& uri) const { return snapshot_.catalog_uris.contains(uri); }

  // Ready workers that can read the job's model and data; empty after a Wait.
  std::vector<const WorkerRow*> WorkersWithFiles(const Need& need) {
    if (ready_.empty()) {
      Wait(need, "NoWorker", "no worker is connected",
           "start one: liger-worker --coordinator ADDRESS", true);
      return {};
    }
    std::vector<const WorkerRow*> with_model = Holding(need, ready_, need.model_uri, HasModel);
    if (with_model.empty() && need.model_is_shape) with_model = ready_;
    if (with_model.empty()) {
      WaitForFile(need, "ModelAbsent", need.job->resolved_spec.model().name(), need.model_uri,
                  ready_.front()->hello.model_root(), "its Hugging Face folder");
      return {};
    }
    std::vector<const WorkerRow*> with_both =
        Holding(need, with_model, need.dataset_uri, HasDataset);
    if (with_both.empty()) {
      WaitForFile(need, "DatasetAbsent", need.job->resolved_spec.dataset().name(), need.dataset_uri,
                  with_model.front()->hello.dataset_root(), "the file");
    }
    return with_both;
  }

  // Those of `workers` that can read one of the job's files, as far as is known.
  std::vector<const WorkerRow*> Holding(const Need& need,
                                        const std::vector<const WorkerRow*>& workers,
                                        const std::string& uri,
                                        bool (*has)(const WorkerRow&, const std::string&)) const {
    const auto lists = [&](const WorkerRow& worker) { return has(worker, uri); };
    if (IsCatalogued(uri) || !Filter(ready_, lists).empty()) return Filter(workers, lists);
    std::vector<const WorkerRow*> checked = Filter(workers, [&](const WorkerRow& worker) {
      return snapshot_.checked.contains({need.job->uid, worker.worker_id});
    });
    return checked.empty() ? workers : checked;
  }

  void WaitForFile(const Need& need, const std::string& reason, const std::string& name,
                   const std::string& uri, const std::string& root, const std::string& what) {
    const bool model = reason == "ModelAbsent";
    std::string refusal;
    for (const WorkerRow* worker : ready_) {
      refusal = model ? ModelRefusal(*worker, uri) : DatasetRefusal(*worker, uri);
      if (!refusal.empty()) break;
    }
    Wait(need, reason,
         absl::StrCat("no worker", !model && IsCatalogued(need.model_uri) ? " with the model" : "",
                      " has ", model ? "the model " : "the dataset ", name,
                      refusal.empty() ? "" : "; ", refusal),
         absl::StrCat("put ", what, " at ", JoinRoot(root, uri), " on a worker"), true);
  }

  static std::string JoinRoot(const std::string& root, const std::string& uri) {
    const absl::string_view path = absl::StripPrefix(uri, "file://");
    if (root.empty() || absl::StartsWith(path, "/")) return std::string(path);
    return absl::StrCat(absl::StripSuffix(root, "/"), "/", path);
  }

  template <typename Predicate>
  static std::vector<const WorkerRow*> Filter(const std::vector<const WorkerRow*>& workers,
                                              Predicate keep) {
    std::vector<const WorkerRow*> kept;
    std::copy_if(workers.begin(), workers.end(), std::back_inserter(kept),
                 [&keep](const WorkerRow* worker) { return keep(*worker); });
    return kept;
  }

  int DevicesOfKind(const WorkerRow& worker, liger::v1::DeviceKind kind) const {
    const auto& devices = worker.hello.devices();
    return static_cast<int>(std::count_if(devices.begin(), devices.end(),
                                          [kind](const auto& d) { return d.kind() == kind; }));
  }

  std::vector<std::string> FreeDevices(const WorkerRow& worker, liger::v1::DeviceKind kind) const {
    std::vector<std::string> free;
    for (const auto& device : worker.hello.devices()) {
      if (device.kind() == kind && !holders_.contains({worker.worker_id, device.uuid()})) {
        free.push_back(device.uuid());
      }
    }
    std::sort(free.begin(), free.end());
    return free;
  }

  // The devices that the job should take on this worker; nullptr: any.
  const std::vector<std::string>* PinOn(const Need& need, const WorkerRow& worker) const {
    const auto pin = snapshot_.pins.find(need.job->uid);
    if (pin == snapshot_.pins.end() || pin->second.first != worker.worker_id) return nullptr;
    const auto& devices = worker.hello.devices();
    for (const std::string& uuid : pin->second.second) {
      if (std::none_of(devices.begin(), devices.end(),
                       [&](const auto& d) { return d.uuid() == uuid && d.kind() == need.kind; })) {
        return nullptr;
      }
    }
    return &pin->second.second;
  }

  // Only the worker that the job should run on, where it still has the devices.
  std::vector<const WorkerRow*> Pinned(const Need& need,
                                       const std::vector<const WorkerRow*>& workers) const {
    const std::vector<const WorkerRow*> pinned =
        Filter(workers, [&](const WorkerRow& worker) { return PinOn(need, worker) != nullptr; });
    return pinned.empty() ? workers : pinned;
  }

  std::vector<std::string> FreeDevicesFor(const Need& need, const WorkerRow& worker) const {
    std::vector<std::string> free = FreeDevices(worker, need.kind);
    if (const std::vector<std::string>* pin = PinOn(need, worker)) {
      std::erase_if(free, [pin](const std::string& uuid) {
        return std::find(pin->begin(), pin->end(), uuid) == pin->end();
      });
    }
    return free;
  }

  // How well a worker suits a job beyond what it must have: its CHECK passed
  // there, its inventory lists the files, it could also train it.
  int Preference(const Need& need, const WorkerRow& worker) const {
    int preference = 0;
    if (snapshot_.checked.contains({need.job->uid, worker.worker_id})) preference += 8;
    if (HasModel(worker, need.model_uri)) preference += 4;
    if (HasDataset(worker, need.dataset_uri)) preference += 2;
    if (DevicesOfKind(worker, need.kind) >= need.count) preference += 1;
    return preference;
  }

  // Where something may be sent now.
  std::vector<const WorkerRow*> Usable(const Need& need,
                                       const std::vector<const WorkerRow*>& workers) const {
    return Filter(workers, [&](const WorkerRow& worker) {
      return !snapshot_.unavailable.contains(worker.worker_id) &&
             !snapshot_.excluded.contains({need.job->uid, worker.worker_id});
    });
  }

  // What the workers said that did not start the job.
  std::vector<std::string> Refusals(const Need& need,
                                    const std::vector<const WorkerRow*>& workers) const {
    std::vector<std::string> refusals;
    for (const WorkerRow* worker : workers) {
      const auto refusal = snapshot_.excluded.find({need.job->uid, worker->worker_id});
      if (refusal != snapshot_.excluded.end()) refusals.push_back(refusal->second);
    }
    return refusals;
  }

  // REQUIRES: no worker of `able` is usable.
  void WaitForWorkers(const Need& need, const std::vector<const WorkerRow*>& able) {
    const std::vector<std::string> refusals = Refusals(need, able);
    if (!refusals.empty()) {
      return Wait(need, "WorkerRefused",
                  absl::StrCat(absl::StrJoin(refusals, "; "), "; it will be tried again"), "",
                  false);
    }
    Wait(need, "WorkerAway",
         absl::StrCat("waits for ",
                      able.size() == 1 ? absl::StrCat("worker ", able.front()->worker_id)
                                       : Plural(static_cast<int64_t>(able.size()), "worker"),
                      " to connect again"),
         "", false);
  }

  void Check(const Need& need) {
    const std::vector<const WorkerRow*> able = WorkersWithFiles(need);
    if (able.empty()) return;
    const std::vector<const WorkerRow*> usable = Usable(need, able);
    if (usable.empty()) return WaitForWorkers(need, able);
    const std::vector<const WorkerRow*> free = Filter(usable, [&](const WorkerRow& worker) {
      return checks_[worker.worker_id] < snapshot_.max_checks_per_worker;
    });
    if (free.empty()) {
      Wait(need, "CheckSlotsBusy", "waits for other jobs to be checked", "", false);
      return;
    }
    const WorkerRow* best =
        *std::max_element(free.begin(), free.end(), [&](const WorkerRow* a, const WorkerRow* b) {
          // Fewer checks are better; the id decides between equals.
          return std::make_tuple(Preference(need, *a), -checks_[a->worker_id], b->worker_id) <
                 std::make_tuple(Preference(need, *b), -checks_[b->worker_id], a->worker_id);
        });
    ++checks_[best->worker_id];
    decisions_.checks.push_back({need.job->uid, best->worker_id});
  }

  void Place(const Need& need) {
    const std::vector<const WorkerRow*> able = WorkersWithFiles(need);
    if (able.empty()) return;
    const std::vector<const WorkerRow*> large =
        Pinned(need, Filter(able, [&](const WorkerRow& worker) {
                 return DevicesOfKind(worker, need.kind) >= need.count;
               }));
    if (large.empty()) return WaitForLargerWorker(need, able);
    const std::vector<const WorkerRow*> usable = Usable(need, large);
    if (usable.empty()) return WaitForWorkers(need, large);

    const WorkerRow* best = nullptr;
    for (const WorkerRow* worker : usable) {
      if (blocked_.contains({worker->worker_id, need.kind})) continue;
      if (FreeDevicesFor(need, *worker).size() < static_cast<size_t>(need.count)) continue;
      if (best == nullptr || Better(need, *worker, *best)) best = worker;
    }
    if (best == nullptr) return WaitForDevices(need, usable, Refusals(need, large));
    std::vector<std::string> devices = FreeDevicesFor(need, *best);
    devices.resize(need.count);
    for (const std::string& uuid : devices) holders_[{best->worker_id, uuid}] = need.job->uid;
    decisions_.placements.push_back({need.job->uid, best->worker_id, std::move(devices)});
  }

  // Then the fullest worker that still fits, so that large gangs find room.
  bool Better(const Need& need, const WorkerRow& a, const WorkerRow& b) const {
    const auto rank = [&](const WorkerRow& worker) {
      return std::make_tuple(-Preference(need, worker), FreeDevices(worker, need.kind).size(),
                             worker.worker_id);
    };
    return rank(a) < rank(b);
  }

  void WaitForLargerWorker(const Need& need, const std::vector<const WorkerRow*>& able) {
    int most = 0;
    for (const WorkerRow* worker : able) most = std::max(most, DevicesOfKind(*worker, need.kind));
    if (most == 0) {
      Wait(need, "NoSuchDevice",
           absl::StrCat("no worker that has the model and data has a ", KindName(need.kind)),
           absl::StrCat("connect a worker with a ", KindName(need.kind),
                        ", or change resources.device_kind"),
           true);
    } else {
      Wait(need, "TooFewDevices",
           absl::StrCat("needs ", Plural(need.count, KindName(need.kind)),
                        " of one worker; the largest has ", most),
           "lower resources.count, or connect a larger worker", true);
    }
  }

  // The messages name no job that only waits: they would all change whenever the
  // first of them is placed.
  void WaitForDevices(const Need& need, const std::vector<const WorkerRow*>& usable,
                      const std::vector<std::string>& refusals) {
    bool behind = false;
    std::set<std::string> held_by;
    for (const WorkerRow* worker : usable) {
      behind |= !blocked_.insert({worker->worker_id, need.kind}).second;
      for (const auto& device : worker->hello.devices()) {
        const auto holder = holders_.find({worker->worker_id, device.uuid()});
        if (holder != holders_.end() && device.kind() == need.kind) {
          held_by.insert(NameOf(holder->second));
        }
      }
    }
    std::string message = behind
                              ? "waits behind older jobs"
                              : absl::StrCat("waits for ", Plural(need.count, KindName(need.kind)),
                                             "; in use by ", absl::StrJoin(held_by, ", "));
    for (const std::string& refusal : refusals) absl::StrAppend(&message, "; ", refusal);
    Wait(need, behind ? "BehindOtherJobs" : "DevicesBusy", message, "", false);
  }

  std::string NameOf(const std::string& uid) const {
    const auto found = names_.find(uid);
    return found == names_.end() ? uid : found->second;
  }

  const ScheduleSnapshot& snapshot_;
  std::vector<const WorkerRow*> ready_;
  std::map<DeviceKey, std::string> holders_;  // job_uid
  std::map<std::string, int> checks_;         // running, by worker
  std::set<std::string> checking_;            // job uids
  std::map<std::string, std::string> names_;
  // Devices of this kind on this worker are kept for an older job.
  std::set<std::pair<std::string, liger::v1::DeviceKind>> blocked_;
  ScheduleDecisions decisions_;
};

}  // namespace

ScheduleDecisions Schedule(const ScheduleSnapshot& snapshot) { return Pass(snapshot).Run(); }

bool SameUri(const std::string& a, const std::string& b, const std::string& root) {
  const std::string prefix = root.empty() ? "" : absl::StrCat(absl::StripSuffix(root, "/"), "/");
  const auto strip = [&prefix](const std::string& uri) {
    absl::string_view path = absl::StripPrefix(uri, "file://");
    if (!prefix.empty()) path = absl::StripPrefix(path, prefix);
    return absl::StripSuffix(absl::StripPrefix(path, "./"), "/");
  };
  return strip(a) == strip(b);
}

bool HasModel(const WorkerRow& worker, const std::string& uri) {
  const InventoryItem* item = Model(worker, uri);
  return item != nullptr && item->refused().empty();
}

bool HasDataset(const WorkerRow& worker, const std::string& uri) {
  const InventoryItem* item = Dataset(worker, uri);
  return item != nullptr && item->refused().empty();
}

std::string ModelDigest(const WorkerRow& worker, const std::string& uri) {
  const InventoryItem* item = Model(worker, uri);
  return item == nullptr ? "" : item->digest();
}

std::string DatasetDigest(const WorkerRow& worker, const std::string& uri) {
  const InventoryItem* item = Dataset(worker, uri);
  return item == nullptr ? "" : item->digest();
}

bool NeedsNoModelFolder(const liger::v1::JobSpec& spec) {
  return spec.model().random_init() && FindModelShape(spec.model().name()) != nullptr;
}

std::string ModelRefusal(const WorkerRow& worker, const std::string& uri) {
  return Refusal(worker, Model(worker, uri));
}

std::string DatasetRefusal(const WorkerRow& worker, const std::string& uri) {
  return Refusal(worker, Dataset(worker, uri));
}

}  // namespace liger::server
