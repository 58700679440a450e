#include "server/scheduler/device_sets.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/plural.h"
#include "server/scheduler/reach.h"

namespace liger::server {
namespace {

constexpr size_t kMostWorkersShown = 8;

// "4 NVIDIA H100"
std::string DescribeModels(const WorkerRow& worker, liger::v1::DeviceKind kind) {
  std::map<std::string, int> models;
  std::vector<std::string> cordoned;
  for (const auto& device : worker.hello.devices()) {
    if (device.kind() != kind) continue;
    if (device.fault().empty()) {
      ++models[kind == liger::v1::DEVICE_KIND_CUDA ? device.model() : ""];
    } else {
      cordoned.push_back(absl::StrCat(device.uuid(), ": ", device.fault()));
    }
  }
  std::vector<std::string> words;
  for (const auto& [model, count] : models) {
    words.push_back(model.empty() ? Plural(count, KindName(kind))
                                  : absl::StrCat(count, " ", model));
  }
  if (!cordoned.empty()) {
    words.push_back(
        absl::StrCat(cordoned.size(), " cordoned (", absl::StrJoin(cordoned, ", "), ")"));
  }
  return absl::StrJoin(words, " and ");
}

// What there is of this kind, for people: "worker w1 has 4 NVIDIA H100, worker w2 has 2
// NVIDIA A100 and 1 cordoned (GPU-1: Xid 79)".
std::string DescribeDevices(const std::vector<const WorkerRow*>& workers,
                            liger::v1::DeviceKind kind) {
  std::set<std::string> builds;
  for (const WorkerRow* worker : workers) builds.insert(worker->hello.build());
  std::vector<std::string> lines;
  size_t more = 0;
  for (const WorkerRow* worker : workers) {
    const std::string models = DescribeModels(*worker, kind);
    if (models.empty()) continue;
    if (lines.size() >= kMostWorkersShown) {
      ++more;
      continue;
    }
    lines.push_back(absl::StrCat(
        "worker ", worker->worker_id, " has ", models,
        builds.size() > 1 ? absl::StrCat(" (build ", worker->hello.build(), ")") : ""));
  }
  if (more > 0) {
    lines.push_back(absl::StrCat("and ", Plural(static_cast<int64_t>(more), "worker"), " more"));
  }
  return absl::StrJoin(lines, ", ");
}

// The sets, whether their workers reach each other or not.
std::vector<DeviceSet> SetsBeforeReach(const std::vector<const WorkerRow*>& workers,
                                       liger::v1::DeviceKind kind, bool mixed) {
  const bool typed = kind == liger::v1::DEVICE_KIND_CUDA && !mixed;
  std::map<std::pair<std::string, std::string>, DeviceSet> sets;
  for (const WorkerRow* worker : workers) {
    for (const auto& device : worker->hello.devices()) {
      if (device.kind() != kind || !device.fault().empty()) continue;
      const std::string model = typed ? device.model() : "";
      DeviceSet& set = sets[{worker->hello.build(), model}];
      set.build = worker->hello.build();
      set.model = model;
      if (set.parts.empty() || set.parts.back().worker != worker) set.parts.push_back({worker, {}});
      set.parts.back().uuids.push_back(device.uuid());
    }
  }
  std::vector<DeviceSet> result;
  for (auto& [key, set] : sets) {
    for (WorkerDevices& part : set.parts) std::sort(part.uuids.begin(), part.uuids.end());
    result.push_back(std::move(set));
  }
  return result;
}

bool AnyHas(const std::vector<DeviceSet>& sets, int count) {
  return std::any_of(sets.begin(), sets.end(),
                     [count](const DeviceSet& set) { return set.size() >= count; });
}

}  // namespace

int DeviceSet::size() const {
  int size = 0;
  for (const WorkerDevices& part : parts) size += static_cast<int>(part.uuids.size());
  return size;
}

std::vector<DeviceSet> DeviceSets(const std::vector<const WorkerRow*>& workers,
                                  liger::v1::DeviceKind kind, bool mixed, bool reached) {
  std::vector<DeviceSet> sets = SetsBeforeReach(workers, kind, mixed);
  if (reached) return sets;
  std::vector<DeviceSet> result;
  for (DeviceSet& set : sets) {
    for (DeviceSet& reachable : ReachableSets(std::move(set))) {
      result.push_back(std::move(reachable));
    }
  }
  return result;
}

std::optional<std::vector<WorkerDevices>> FewestWorkers(std::vector<WorkerDevices> parts,
                                                        int count, const BetterWorker& better) {
  std::sort(parts.begin(), parts.end(), [&](const WorkerDevices& a, const WorkerDevices& b) {
    if (a.uuids.size() != b.uuids.size()) return a.uuids.size() > b.uuids.size();
    return better(a, b);
  });
  std::vector<WorkerDevices> chosen;
  size_t left = static_cast<size_t>(count);
  while (true) {
    // Whoever has all that is left ends it.
    auto last = parts.end();
    for (auto it = parts.begin(); it != parts.end() && it->uuids.size() >= left; ++it) {
      if (last == parts.end() || better(*it, *last)) last = it;
    }
    if (last != parts.end()) {
      last->uuids.resize(left);
      chosen.push_back(std::move(*last));
      PutReachedFirst(&chosen);
      return chosen;
    }
    if (parts.empty() || parts.front().uuids.empty()) return std::nullopt;
    left -= parts.front().uuids.size();
    chosen.push_back(std::move(parts.front()));
    parts.erase(parts.begin());
  }
}

std::vector<const WorkerRow*> WorkersOf(const std::vector<DeviceSet>& sets) {
  std::vector<const WorkerRow*> workers;
  for (const DeviceSet& set : sets) {
    for (const WorkerDevices& part : set.parts) {
      if (std::find(workers.begin(), workers.end(), part.worker) == workers.end()) {
        workers.push_back(part.worker);
      }
    }
  }
  return workers;
}

int DevicesOfKind(const WorkerRow& worker, liger::v1::DeviceKind kind) {
  const auto& devices = worker.hello.devices();
  return static_cast<int>(std::count_if(devices.begin(), devices.end(), [kind](const auto& d) {
    return d.kind() == kind && d.fault().empty();
  }));
}

const char* KindName(liger::v1::DeviceKind kind) {
  return kind == liger::v1::DEVICE_KIND_CUDA ? "GPU" : "CPU slot";
}

Shortage WhyTooFew(const std::vector<const WorkerRow*>& workers, liger::v1::DeviceKind kind,
                   int count) {
  const std::string there = DescribeDevices(workers, kind);
  int all = 0;
  for (const WorkerRow* worker : workers) all += DevicesOfKind(*worker, kind);
  if (all == 0) {
    return {"NoSuchDevice",
            absl::StrCat("no worker that has the model and data has a ",
                         there.empty() ? "" : "working ", KindName(kind),
                         there.empty() ? "" : absl::StrCat(": ", there)),
            absl::StrCat("connect a worker with a ", KindName(kind),
                         ", or change resources.device_kind")};
  }
  const std::string needs = absl::StrCat("needs ", Plural(count, KindName(kind)));
  if (all < count) {
    return {"TooFewDevices",
            absl::StrCat(needs, "; of the workers that have the model and data ", there),
            "lower resources.count, or connect more workers"};
  }
  // Enough in number, but not together.
  if (AnyHas(DeviceSets(workers, kind, /*mixed=*/true), count)) {
    return {"MixedDevices", absl::StrCat(needs, " of one type; ", there),
            "set resources.allow_mixed_devices (all ranks then wait for the slowest), lower "
            "resources.count, or connect more GPUs of one type"};
  }
  if (AnyHas(SetsBeforeReach(workers, kind, /*mixed=*/true), count)) {
    return WhyOutOfReach(workers, needs);
  }
  return {"MixedBuilds", absl::StrCat(needs, " of workers of one build; ", there),
          "run the same build of liger-worker and liger-trainer on all workers, or lower "
          "resources.count"};
}

}  // namespace liger::server
