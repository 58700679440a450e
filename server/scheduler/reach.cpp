#include "server/scheduler/reach.h"

#include <algorithm>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/address.h"

namespace liger::server {
namespace {

// A container has a name of its own on its host, and a loopback of its own.
using Host = std::pair<std::string_view, std::string_view>;
Host HostOf(const WorkerRow& worker) { return {worker.hello.boot_id(), worker.hello.host_name()}; }

bool IsReached(const WorkerRow& worker) {
  return !IsLoopbackHost(worker.hello.advertise_address());
}

}  // namespace

bool AllMeet(const std::vector<const WorkerRow*>& workers) {
  std::set<Host> apart;
  for (const WorkerRow* worker : workers) {
    if (!IsReached(*worker)) apart.insert(HostOf(*worker));
  }
  return apart.size() < 2;
}

std::vector<DeviceSet> ReachableSets(DeviceSet set) {
  std::set<Host> apart;  // that have a worker which others do not reach
  for (const WorkerDevices& part : set.parts) {
    if (!IsReached(*part.worker)) apart.insert(HostOf(*part.worker));
  }
  std::vector<DeviceSet> sets;
  if (apart.size() < 2) {
    sets.push_back(std::move(set));
    return sets;
  }
  for (const Host& host : apart) {
    DeviceSet& reachable = sets.emplace_back(set);
    std::erase_if(reachable.parts, [&host](const WorkerDevices& part) {
      return !IsReached(*part.worker) && HostOf(*part.worker) != host;
    });
  }
  return sets;
}

void PutReachedFirst(std::vector<WorkerDevices>* gang) {
  std::set<Host> hosts;
  for (const WorkerDevices& part : *gang) hosts.insert(HostOf(*part.worker));
  if (hosts.size() < 2) return;
  std::stable_partition(gang->begin(), gang->end(),
                        [](const WorkerDevices& part) { return IsReached(*part.worker); });
}

Shortage WhyOutOfReach(const std::vector<const WorkerRow*>& workers, const std::string& needs) {
  std::vector<std::string> unreached;
  for (const WorkerRow* worker : workers) {
    if (IsReached(*worker)) continue;
    unreached.push_back(absl::StrCat("worker ", worker->worker_id, " (", worker->hello.host_name(),
                                     ") advertises ", worker->hello.advertise_address()));
  }
  return {"LoopbackAddress",
          absl::StrCat(needs, " of several hosts, whose ranks cannot reach each other: ",
                       absl::StrJoin(unreached, ", ")),
          "start each of these with liger-worker --advertise-address and its host's address, or "
          "let it connect to the coordinator by another one than loopback's"};
}

}  // namespace liger::server
