#include "server/scheduler/memory_fit.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/bytes.h"
#include "common/plural.h"

namespace liger::server {
namespace {

using liger::v1::JobSpec;
using liger::worker::v1::DeviceInfo;

std::vector<const WorkerRow*> Pointers(const std::vector<WorkerRow>& workers) {
  std::vector<const WorkerRow*> pointers;
  for (const WorkerRow& worker : workers) pointers.push_back(&worker);
  return pointers;
}

// Devices of the job's kind, and those of them that hold a rank of it.
struct Held {
  int all = 0, large = 0;
};

struct Largest {
  const DeviceInfo* device = nullptr;
  const WorkerRow* worker = nullptr;
  int64_t bytes() const { return device == nullptr ? 0 : device->memory_bytes(); }
};

// Cordoned ones count: they are of a kind that this fleet has.
Largest LargestDevice(const std::vector<const WorkerRow*>& workers, const JobSpec& resolved) {
  Largest largest;
  for (const WorkerRow* worker : workers) {
    for (const DeviceInfo& device : worker->hello.devices()) {
      if (device.kind() != resolved.resources().device_kind()) continue;
      if (device.memory_bytes() > largest.bytes()) largest = {&device, worker};
    }
  }
  return largest;
}

int Count(const JobSpec& resolved) { return std::max(1, resolved.resources().count()); }

Held CountDevices(const std::vector<const WorkerRow*>& workers, const JobSpec& resolved,
                  const MemoryNeeds& needs) {
  Held held;
  for (const WorkerRow* worker : workers) {
    for (const DeviceInfo& device : worker->hello.devices()) {
      if (device.kind() != resolved.resources().device_kind()) continue;
      ++held.all;
      if (HoldsRank(device, resolved, needs, Count(resolved))) ++held.large;
    }
  }
  return held;
}

std::string Describe(const Largest& largest) {
  return absl::StrCat(Bytes(largest.bytes()), " (",
                      largest.device->model().empty() ? "" : largest.device->model() + ", ",
                      "worker ", largest.worker->worker_id, ")");
}

// "with DDP on 2 GPUs each holds at least 25.28 GB of parameters, gradients and optimizer states",
// on one "the job holds ...".
std::string DescribeLeast(const RankMemoryNeed& need, liger::v1::DeviceKind kind) {
  const bool alone = need.world_size == 1;
  const bool gpu = kind == liger::v1::DEVICE_KIND_CUDA;
  return absl::StrCat(alone ? "" : absl::StrCat("with ", StrategyName(need.strategy), " "), "on ",
                      Plural(need.world_size, KindName(kind)), alone ? " the job" : " each",
                      " holds at least ", Bytes(need.need.least),
                      " of parameters, gradients and optimizer states",
                      gpu ? "" : " in the host's memory");
}

}  // namespace

bool HoldsRank(const DeviceInfo& device, const JobSpec& resolved, const MemoryNeeds& needs,
               int world_size) {
  if (device.kind() != liger::v1::DEVICE_KIND_CUDA || device.memory_bytes() == 0) return true;
  const auto need = needs.Of(resolved, world_size, device.memory_bytes());
  return !need || need->need.least <= device.memory_bytes();
}

void KeepThoseThatHold(const JobSpec& resolved, const MemoryNeeds& needs, int world_size,
                       DeviceSet* set) {
  for (WorkerDevices& part : set->parts) {
    for (const DeviceInfo& device : part.worker->hello.devices()) {
      if (!HoldsRank(device, resolved, needs, world_size)) std::erase(part.uuids, device.uuid());
    }
  }
  std::erase_if(set->parts, [](const WorkerDevices& part) { return part.uuids.empty(); });
}

std::optional<Shortage> WhyTooSmall(const std::vector<const WorkerRow*>& workers,
                                    const JobSpec& resolved, const MemoryNeeds& needs) {
  const int count = Count(resolved);
  const liger::v1::DeviceKind kind = resolved.resources().device_kind();
  const auto [all, large] = CountDevices(workers, resolved, needs);
  const Largest largest = LargestDevice(workers, resolved);
  const auto need = needs.Of(resolved, count, largest.bytes());
  if (large == all || large >= count || !need || largest.device == nullptr) return std::nullopt;
  std::string message = absl::StrCat(
      DescribeLeast(*need, kind), ", whatever the batch; ");
  if (large == 0) {
    absl::StrAppend(&message, "the largest there has ", Describe(largest));
  } else {
    absl::StrAppend(&message, "only ", large, " of the ", Plural(all, KindName(kind)),
                    " there ", large == 1 ? "has" : "have", " as much");
  }
  const auto shared = needs.FullySharedOn(largest.bytes());
  return Shortage{"DeviceMemory", std::move(message),
                  LeastMemoryRemedy(resolved, need->strategy, shared)};
}

std::optional<Shortage> AllTooSmall(const std::vector<WorkerRow>& workers,
                                    const JobSpec& resolved, const MemoryNeeds& needs) {
  const std::vector<const WorkerRow*> pointers = Pointers(workers);
  if (CountDevices(pointers, resolved, needs).large > 0) return std::nullopt;
  return WhyTooSmall(pointers, resolved, needs);
}

std::optional<liger::v1::Warning> MemoryWarning(const std::vector<WorkerRow>& rows,
                                                const JobSpec& resolved, const MemoryNeeds& needs) {
  const std::vector<const WorkerRow*> workers = Pointers(rows);
  liger::v1::Warning warning;
  warning.set_code("DeviceMemory");
  if (const auto shortage = WhyTooSmall(workers, resolved, needs)) {
    warning.set_field("parallel.strategy");
    warning.set_message(absl::StrCat(shortage->message, "; ", shortage->action));
    return warning;
  }
  const Largest largest = LargestDevice(workers, resolved);
  const auto need = needs.Of(resolved, Count(resolved), largest.bytes());
  const bool gpu = resolved.resources().device_kind() == liger::v1::DEVICE_KIND_CUDA;
  if (!need || !gpu || largest.bytes() == 0 || need->need.peak <= largest.bytes()) {
    return std::nullopt;
  }
  warning.set_field("training.per_device_train_batch_size");
  warning.set_message(PeakAdvice(resolved, need->need.peak, largest.bytes()));
  return warning;
}

std::string MemoryNotice(const std::vector<WorkerRow>& rows, const JobSpec& resolved,
                         const MemoryNeeds& needs) {
  const Largest largest = LargestDevice(Pointers(rows), resolved);
  const auto need = needs.Of(resolved, Count(resolved), largest.bytes());
  if (!need) return "";
  const liger::v1::DeviceKind kind = resolved.resources().device_kind();
  const bool gpu = kind == liger::v1::DEVICE_KIND_CUDA;
  std::string notice = DescribeLeast(*need, kind);
  if (need->need.peak > 0) {
    absl::StrAppend(&notice, ", and ", Bytes(need->need.peak),
                    " in all are predicted with rows of ", resolved.training().max_length(),
                    " tokens (max_length)");
  } else {
    notice += "; what it computes of a batch comes on top";
  }
  if (need->need.host > 0) {
    absl::StrAppend(&notice, "; ", Bytes(need->need.host), " of its host's memory go with it");
  }
  if (gpu && largest.device != nullptr) {
    absl::StrAppend(&notice, "; the largest there has ", Describe(largest));
  }
  return notice;
}

}  // namespace liger::server
