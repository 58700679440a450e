#ifndef LIGER_WORKER_AGENT_PROCESS_H_
#define LIGER_WORKER_AGENT_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "worker/agent/spawner.h"

namespace liger::agent {

// Environment variable that every trainer and whatever it starts carries: the
// attempt's folder. It finds processes that left the trainer's session.
inline constexpr char kMarkVariable[] = "LIGER_ATTEMPT";

// Start time of a process in clock ticks since boot; nullopt when there is
// none or it is a zombie.
std::optional<int64_t> StartTicks(pid_t pid);

// True while that very process runs.
bool IsRunning(const ProcessId& process);

// Processes, other than this one, whose environment has kMarkVariable=`mark`.
std::vector<pid_t> FindMarked(const std::string& mark);

// SIGKILLs the process groups led by `leaders` and every process that carries
// `mark`, until none is left or `timeout` is over. False when something
// survived.
bool KillTree(const std::vector<ProcessId>& leaders, const std::string& mark,
              absl::Duration timeout);

// Collects ended children that are not in `known`: as the first process of a
// container the agent inherits every orphan.
void ReapStrays(const std::set<pid_t>& known);

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_PROCESS_H_
