#ifndef LIGER_WORKER_AGENT_SERVICES_H_
#define LIGER_WORKER_AGENT_SERVICES_H_

#include <functional>
#include <string>
#include <vector>

#include "worker/agent/attempt_folder.h"
#include "worker/agent/devices.h"
#include "worker/agent/event_loop.h"
#include "worker/agent/identity.h"
#include "worker/agent/lease.h"
#include "worker/agent/log_shipper.h"
#include "worker/agent/nvml.h"
#include "worker/agent/options.h"
#include "worker/agent/publisher.h"
#include "worker/agent/rank_ports.h"
#include "worker/agent/roots.h"
#include "worker/agent/spawner.h"

namespace liger::agent {

// What every task of an agent shares. Owned by the Agent, which outlives them.
struct Services {
  const Options* options = nullptr;
  Identity* identity = nullptr;
  const Lease* lease = nullptr;
  const Root* model_root = nullptr;
  const Root* dataset_root = nullptr;
  const Root* output_root = nullptr;
  // Of --allow-path.
  std::vector<const Root*> allowed_roots;
  DeviceLedger* ledger = nullptr;
  RankPorts* ports = nullptr;
  Nvml* nvml = nullptr;  // may be null
  AttemptArchive* archive = nullptr;
  Spawner* spawner = nullptr;
  LogShipper* shipper = nullptr;
  PublishThread* publish_thread = nullptr;
  // Notes in the ledger which devices have failed by now.
  std::function<void()> check_devices = [] {};
  // Runs a closure on the agent's thread with the task of that key, if it is
  // still there.
  std::function<void(const std::string& task_key, std::function<void(class TaskRunner&)>)>
      post_to_task;
};

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_SERVICES_H_
