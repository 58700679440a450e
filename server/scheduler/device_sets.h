#ifndef LIGER_SERVER_SCHEDULER_DEVICE_SETS_H_
#define LIGER_SERVER_SCHEDULER_DEVICE_SETS_H_

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "server/store/records.h"

// Which devices may train one job together, and which of them a gang takes.
// Pure functions.
namespace liger::server {

// Devices of one worker.
struct WorkerDevices {
  const WorkerRow* worker = nullptr;
  std::vector<std::string> uuids;  // in order
};

// Devices that one job may take together: of workers that run the same build and
// whose ranks find each other (reach.h), and of one type, unless types may mix. CPU
// slots have no types.
struct DeviceSet {
  std::string build;
  std::string model;  // empty: any
  std::vector<WorkerDevices> parts;

  int size() const;
};

// The sets of the working devices of this kind; a device is in one of them, or in
// several where workers of several hosts are not reached from others. `reached`: it is
// known that this parts none.
std::vector<DeviceSet> DeviceSets(const std::vector<const WorkerRow*>& workers,
                                  liger::v1::DeviceKind kind, bool mixed, bool reached = false);

// `count` of the devices in `parts`, on as few workers as can be; nullopt when there
// are not so many. Where workers are equally few, `better(a, b)` says that a is to
// be taken before b: first for the last worker, which need not be used up. Rank 0 is
// the first one's, which all others reach.
using BetterWorker = std::function<bool(const WorkerDevices& a, const WorkerDevices& b)>;
std::optional<std::vector<WorkerDevices>> FewestWorkers(std::vector<WorkerDevices> parts,
                                                        int count, const BetterWorker& better);

// Their workers, each once.
std::vector<const WorkerRow*> WorkersOf(const std::vector<DeviceSet>& sets);

int DevicesOfKind(const WorkerRow& worker, liger::v1::DeviceKind kind);

// "GPU", "CPU slot".
const char* KindName(liger::v1::DeviceKind kind);

// Why no job can have `count` of these workers' devices, whatever is free: what it
// needs, what is there, what to do.
struct Shortage {
  // NoSuchDevice, TooFewDevices, MixedDevices, LoopbackAddress, MixedBuilds
  std::string reason;
  std::string message;
  std::string action;
};
// REQUIRES: no set of DeviceSets has so many, types apart.
Shortage WhyTooFew(const std::vector<const WorkerRow*>& workers, liger::v1::DeviceKind kind,
                   int count);

}  // namespace liger::server

#endif  // LIGER_SERVER_SCHEDULER_DEVICE_SETS_H_
