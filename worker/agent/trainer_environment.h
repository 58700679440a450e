#ifndef LIGER_WORKER_AGENT_TRAINER_ENVIRONMENT_H_
#define LIGER_WORKER_AGENT_TRAINER_ENVIRONMENT_H_

#include <map>
#include <string>
#include <vector>

#include "liger/worker/v1/worker.pb.h"
#include "worker/agent/devices.h"

namespace liger::agent {

// This process's environment.
std::map<std::string, std::string> OwnEnvironment();

// Per local rank: `base`, torchrun's names (RANK, WORLD_SIZE, LOCAL_RANK,
// LOCAL_WORLD_SIZE, GROUP_RANK, MASTER_ADDR, MASTER_PORT, and the attempt as
// TORCHELASTIC_RESTART_COUNT), the task's GPUs by UUID in the order of the local
// ranks, how NCCL and Gloo reach the other ranks (over `socket_interface`, if that is
// not empty), and threads.
std::vector<std::map<std::string, std::string>> TrainerEnvironments(
    const std::map<std::string, std::string>& base, const worker::v1::Prepare& prepare,
    const worker::v1::Master& master, const DeviceLedger& ledger,
    const std::string& socket_interface, const std::string& mark);

// What of such an environment says how the ranks find and reach each other.
std::map<std::string, std::string> CommunicationPart(
    const std::map<std::string, std::string>& environment);

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_TRAINER_ENVIRONMENT_H_
