#include "server/scheduler/scheduler.h"

#include <algorithm>
#include <map>
#include <optional>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/plural.h"
#include "common/spec/elastic.h"
#include "server/scheduler/device_sets.h"
#include "server/scheduler/memory_fit.h"
#include "server/scheduler/need.h"
#include "server/scheduler/reach.h"
#include "server/scheduler/usable.h"
#include "server/store/job_history.h"

namespace liger::server {
namespace {

// One pass over the jobs, oldest first. Decisions taken so far count as done.
class Pass {
 public:
  explicit Pass(const ScheduleSnapshot& snapshot) : snapshot_(snapshot) {
    for (const WorkerRow& worker : snapshot.workers) {
      if (worker.state == WorkerState::kReady && !worker.cordoned) ready_.push_back(&worker);
    }
    all_meet_ = AllMeet(ready_);
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
    std::sort(jobs.begin(), jobs.end(), [this](const JobRow* a, const JobRow* b) {
      const bool a_yields = Yields(snapshot_, *a), b_yields = Yields(snapshot_, *b);
      return std::tie(a_yields, a->created_us, a->uid) < std::tie(b_yields, b->created_us, b->uid);
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
         absl::StrCat("put ", what, " at ", PathBelow(root, uri), " on a worker"), true);
  }

  template <typename Predicate>
  static std::vector<const WorkerRow*> Filter(const std::vector<const WorkerRow*>& workers,
                                              Predicate keep) {
    std::vector<const WorkerRow*> kept;
    std::copy_if(workers.begin(), workers.end(), std::back_inserter(kept),
                 [&keep](const WorkerRow* worker) { return keep(*worker); });
    return kept;
  }

  // The devices that the job should take on this worker; nullptr: any.
  const std::vector<std::string>* PinOn(const Need& need, const WorkerRow& worker) const {
    const auto pin = snapshot_.pins.find(need.job->uid);
    if (pin == snapshot_.pins.end() || pin->second.first != worker.worker_id) return nullptr;
    // It may go elsewhere: a retry, or where nothing is sent there.
    if (snapshot_.failed_on.contains({need.job->uid, worker.worker_id})) return nullptr;
    if (TakesNothing(snapshot_, worker.worker_id)) return nullptr;
    const std::vector<std::string>& uuids = pin->second.second;
    // A gang of several workers is pinned to none of them.
    if (static_cast<int>(uuids.size()) < need.count) return nullptr;
    const auto& devices = worker.hello.devices();
    for (const std::string& uuid : uuids) {
      if (std::none_of(devices.begin(), devices.end(), [&](const auto& d) {
            return d.uuid() == uuid && d.kind() == need.kind && d.fault().empty();
          })) {
        return nullptr;
      }
    }
    return &uuids;
  }

  // Only the worker that the job should run on, where it still has the devices.
  std::vector<const WorkerRow*> Pinned(const Need& need,
                                       const std::vector<const WorkerRow*>& workers) const {
    const std::vector<const WorkerRow*> pinned =
        Filter(workers, [&](const WorkerRow& worker) { return PinOn(need, worker) != nullptr; });
    return pinned.empty() ? workers : pinned;
  }

  const MemoryNeeds& MemoryOf(const Need& need) const {
    static const MemoryNeeds kUnknown;
    const auto found = snapshot_.memory.find(need.job->uid);
    return found == snapshot_.memory.end() ? kUnknown : found->second;
  }

  // Sets that have as many devices as the job needs, large enough for it, were they all free.
  std::vector<DeviceSet> SetsThatFit(const Need& need,
                                     const std::vector<const WorkerRow*>& workers) const {
    std::vector<DeviceSet> sets = DeviceSets(workers, need.kind, need.mixed,
                                             /*reached=*/need.count == 1 || all_meet_);
    for (DeviceSet& set : sets) {
      KeepThoseThatHold(need.job->resolved_spec, MemoryOf(need), need.count, &set);
    }
    std::erase_if(sets, [&need](const DeviceSet& set) { return set.size() < need.count; });
    return sets;
  }

  // What of a set this job may take now.
  std::vector<WorkerDevices> FreeParts(const Need& need, const DeviceSet& set) const {
    std::vector<WorkerDevices> free;
    for (const WorkerDevices& part : set.parts) {
      if (blocked_.contains({part.worker->worker_id, need.kind})) continue;
      const std::vector<std::string>* pin = PinOn(need, *part.worker);
      WorkerDevices& left = free.emplace_back(WorkerDevices{part.worker, {}});
      for (const std::string& uuid : part.uuids) {
        if (holders_.contains({part.worker->worker_id, uuid})) continue;
        if (pin != nullptr && std::find(pin->begin(), pin->end(), uuid) == pin->end()) continue;
        left.uuids.push_back(uuid);
      }
    }
    return free;
  }

  // How well a worker suits a job beyond what it must have: its CHECK passed
  // there, its inventory lists the files, it could also train it; one that failed what it got last
  // is for when the others are in use.
  int Preference(const Need& need, const WorkerRow& worker) const {
    int preference = snapshot_.probing.contains(worker.worker_id) ? -16 : 0;
    if (snapshot_.checked.contains({need.job->uid, worker.worker_id})) preference += 8;
    if (HasModel(worker, need.model_uri)) preference += 4;
    if (HasDataset(worker, need.dataset_uri)) preference += 2;
    if (DevicesOfKind(worker, need.kind) >= need.count) preference += 1;
    return preference;
  }

  std::vector<const WorkerRow*> UsableFor(const Need& need,
                                          const std::vector<const WorkerRow*>& workers) const {
    return Usable(snapshot_, need.job->uid, workers, offered_);
  }

  void WaitUntilUsable(const Need& need, const std::vector<const WorkerRow*>& able) {
    decisions_.waits.push_back(WaitForWorkers(snapshot_, need.job->uid, able, offered_));
  }

  // So lately that it waits for another worker that is in use.
  bool FailedLately(const Need& need) const {
    return snapshot_.failed_lately.contains(need.job->uid);
  }

  std::vector<const WorkerRow*> WithFreeSlot(const std::vector<const WorkerRow*>& workers) {
    return Filter(workers, [&](const WorkerRow& worker) {
      return checks_[worker.worker_id] < snapshot_.max_checks_per_worker;
    });
  }

  void Check(const Need& need) {
    const std::vector<const WorkerRow*> able = WorkersWithFiles(need);
    if (able.empty()) return;
    const std::vector<const WorkerRow*> usable = UsableFor(need, able);
    if (usable.empty()) return WaitUntilUsable(need, able);
    const std::vector<const WorkerRow*> trusted = Trusted(snapshot_, need.job->uid, usable);
    std::vector<const WorkerRow*> free = WithFreeSlot(trusted);
    if (free.empty() && (trusted.empty() || !FailedLately(need))) free = WithFreeSlot(usable);
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
    offered_.insert(best->worker_id);
    decisions_.checks.push_back({need.job->uid, best->worker_id});
  }

  // Workers with enough devices of one set, were they all free.
  std::vector<const WorkerRow*> LargeEnough(const Need& need,
                                            const std::vector<const WorkerRow*>& able) const {
    std::vector<const WorkerRow*> large = WorkersOf(SetsThatFit(need, able));
    const std::vector<const WorkerRow*> pinned = Pinned(need, large);
    return pinned.size() < large.size() ? WorkersOf(SetsThatFit(need, pinned)) : large;
  }

  // For as many devices as it asks for, or may take instead; says how many.
  std::vector<const WorkerRow*> LargestOf(const std::vector<const WorkerRow*>& able,
                                          Need* need) const {
    for (const int size : WorldSizes(need->job->resolved_spec, HasRun(*need->job))) {
      need->count = size;
      std::vector<const WorkerRow*> large = LargeEnough(*need, able);
      if (!large.empty()) return large;
    }
    return {};
  }

  // On as many devices as it asks for, while fit workers have so many, busy or not.
  void Place(Need need) {
    const std::vector<const WorkerRow*> able = WorkersWithFiles(need);
    if (able.empty()) return;
    const int asked = need.count;
    const std::vector<const WorkerRow*> fit = Fit(snapshot_, able);
    std::vector<const WorkerRow*> large = LargestOf(fit, &need);
    if (large.empty() && fit.size() < able.size()) large = LargestOf(able, &need);  // to be mended
    if (large.empty()) {
      if (WaitForMemory(need, able)) return;
      const Shortage shortage = WhyTooFew(able, need.kind, asked);
      return Wait(need, shortage.reason, shortage.message, shortage.action, /*can_never=*/true);
    }
    const std::vector<const WorkerRow*> usable = UsableFor(need, large);
    const std::vector<DeviceSet> sets = SetsThatFit(need, usable);
    if (sets.empty()) return WaitUntilUsable(need, large);
    const std::vector<const WorkerRow*> untried = Trusted(snapshot_, need.job->uid, usable);
    const bool failed = untried.size() < usable.size();
    const std::vector<DeviceSet> trusted = failed ? SetsThatFit(need, untried) : sets;
    std::optional<Choice> best = Best(need, trusted);
    const bool patient = !trusted.empty() && FailedLately(need);
    if (!best && failed && !patient) best = Best(need, sets);
    if (!best) {
      return WaitForDevices(need, WorkersOf(patient ? trusted : sets),
                            fit.size() < able.size() ? LargeEnough(need, able) : large);
    }
    PlacementDecision& placement = decisions_.placements.emplace_back();
    placement.job_uid = need.job->uid;
    for (WorkerDevices& part : best->parts) {
      for (const std::string& uuid : part.uuids) {
        holders_[{part.worker->worker_id, uuid}] = need.job->uid;
      }
      offered_.insert(part.worker->worker_id);
      placement.members.push_back({part.worker->worker_id, std::move(part.uuids)});
    }
  }

  // False: it is not their memory that is wanting.
  bool WaitForMemory(const Need& need, const std::vector<const WorkerRow*>& able) {
    const liger::v1::JobSpec& resolved = need.job->resolved_spec;
    const std::optional<Shortage> here = WhyTooSmall(able, resolved, MemoryOf(need));
    if (!here) return false;
    const bool nowhere = AllTooSmall(snapshot_.workers, resolved, MemoryOf(need)).has_value();
    Wait(need, here->reason, here->message, here->action, /*can_never=*/true);
    decisions_.waits.back().refused = nowhere && !HasRun(*need.job);
    return true;
  }

  // Devices that a job could take, and how good that would be: lower is better.
  struct Choice {
    std::vector<WorkerDevices> parts;
    std::tuple<size_t, int, size_t, std::string> rank;
  };

  std::optional<Choice> Best(const Need& need, const std::vector<DeviceSet>& sets) const {
    std::optional<Choice> best;
    for (const DeviceSet& set : sets) {
      std::optional<Choice> choice = Choose(need, set);
      if (choice && (!best || choice->rank < best->rank)) best = std::move(choice);
    }
    return best;
  }

  std::optional<Choice> Choose(const Need& need, const DeviceSet& set) const {
    const std::vector<WorkerDevices> free = FreeParts(need, set);
    // Then the fullest worker that still fits, so that large gangs find room.
    const auto rank = [&](const WorkerDevices& part) {
      return std::make_tuple(-Preference(need, *part.worker), part.uuids.size(),
                             part.worker->worker_id);
    };
    std::optional<std::vector<WorkerDevices>> parts = FewestWorkers(
        free, need.count,
        [&](const WorkerDevices& a, const WorkerDevices& b) { return rank(a) < rank(b); });
    if (!parts) return std::nullopt;
    int preference = Preference(need, *parts->front().worker);
    size_t room = 0;
    for (const WorkerDevices& part : *parts) {
      preference = std::min(preference, Preference(need, *part.worker));
      for (const WorkerDevices& whole : free) {
        if (whole.worker == part.worker) room += whole.uuids.size();
      }
    }
    const std::string first = parts->front().worker->worker_id;
    const size_t workers = parts->size();
    return Choice{*std::move(parts), {workers, -preference, room, first}};
  }

  // The messages name no job that only waits: they would all change whenever the
  // first of them is placed.
  void WaitForDevices(const Need& need, const std::vector<const WorkerRow*>& usable,
                      const std::vector<const WorkerRow*>& large) {
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
    const auto obstacles = Obstacles(snapshot_, need.job->uid, large, offered_);
    for (const std::string& text : obstacles) absl::StrAppend(&message, "; ", text);
    Wait(need, behind ? "BehindOtherJobs" : "DevicesBusy", message, "", false);
  }

  std::string NameOf(const std::string& uid) const {
    const auto found = names_.find(uid);
    return found == names_.end() ? uid : found->second;
  }

  const ScheduleSnapshot& snapshot_;
  std::vector<const WorkerRow*> ready_;
  bool all_meet_ = false;                     // whatever workers a gang takes
  std::map<DeviceKey, std::string> holders_;  // job_uid
  std::map<std::string, int> checks_;         // running, by worker
  std::set<std::string> checking_;            // job uids
  std::set<std::string> offered_;             // workers that this pass has given something
  std::map<std::string, std::string> names_;
  // Devices of this kind on this worker are kept for an older job.
  std::set<std::pair<std::string, liger::v1::DeviceKind>> blocked_;
  ScheduleDecisions decisions_;
};

}  // namespace

ScheduleDecisions Schedule(const ScheduleSnapshot& snapshot) { return Pass(snapshot).Run(); }

}  // namespace liger::server
