#include "worker/agent/trainer_environment.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "worker/agent/process.h"

namespace liger::agent {

std::map<std::string, std::string> OwnEnvironment() {
  std::map<std::string, std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const absl::string_view assignment = *entry;
    const size_t equals = assignment.find('=');
    if (equals == absl::string_view::npos) continue;
    environment[std::string(assignment.substr(0, equals))] =
        std::string(assignment.substr(equals + 1));
  }
  return environment;
}

namespace {

// A rank that waits for a connection, or for an answer, hears of a peer's end by its
// watch within seconds; these only bound what NCCL does by itself.
constexpr std::pair<const char*, const char*> kNccl[] = {
    // The rank's watch ends it and names the peer that is lost; c10d's would abort it before.
    {"TORCH_NCCL_ASYNC_ERROR_HANDLING", "0"},
    {"NCCL_DEBUG", "WARN"},
};

// What the host's owner set for the agent wins, but for a flag.
void AddCommunication(const worker::v1::Gang& gang, bool gpus, const std::string& interface,
                      std::map<std::string, std::string>* env) {
  if (gang.world_size() < 2) return;
  for (const char* name : {"NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"}) {
    if (!interface.empty()) {
      (*env)[name] = interface;
    } else if (gang.nnodes() < 2) {
      env->try_emplace(name, "lo");
    }
  }
  if (!gpus) return;
  for (const auto& [name, value] : kNccl) env->try_emplace(name, value);
}

}  // namespace

std::map<std::string, std::string> CommunicationPart(
    const std::map<std::string, std::string>& environment) {
  std::map<std::string, std::string> part;
  for (const auto& [name, value] : environment) {
    for (const char* prefix : {"NCCL_", "TORCH_NCCL_", "GLOO_", "MASTER_", "WORLD_SIZE"}) {
      if (absl::StartsWith(name, prefix)) part[name] = value;
    }
  }
  return part;
}

std::vector<std::map<std::string, std::string>> TrainerEnvironments(
    const std::map<std::string, std::string>& base, const worker::v1::Prepare& prepare,
    const worker::v1::Master& master, const DeviceLedger& ledger,
    const std::string& socket_interface, const std::string& mark) {
  std::vector<std::string> gpus;
  for (const auto& rank : prepare.local_ranks()) {
    const auto* device = ledger.Find(rank.device_uuid());
    if (device != nullptr && device->kind() == v1::DEVICE_KIND_CUDA) gpus.push_back(device->uuid());
  }
  std::vector<std::map<std::string, std::string>> environments;
  for (int i = 0; i < prepare.local_ranks_size(); ++i) {
    auto& env = environments.emplace_back(base);
    env["RANK"] = absl::StrCat(prepare.local_ranks(i).rank());
    env["WORLD_SIZE"] = absl::StrCat(std::max(1, prepare.gang().world_size()));
    env["LOCAL_RANK"] = absl::StrCat(i);
    env["LOCAL_WORLD_SIZE"] = absl::StrCat(prepare.local_ranks_size());
    env["GROUP_RANK"] = absl::StrCat(prepare.gang().node_rank());
    env["MASTER_ADDR"] = master.addr();
    env["MASTER_PORT"] = absl::StrCat(master.port());
    // Ranks of an earlier attempt that are not gone yet must not meet those of this one.
    env["TORCHELASTIC_RESTART_COUNT"] = absl::StrCat(prepare.ref().epoch());
    AddCommunication(prepare.gang(), !gpus.empty(), socket_interface, &env);
    // Empty hides every GPU: a CPU task must not touch one.
    env["CUDA_VISIBLE_DEVICES"] = absl::StrJoin(gpus, ",");
    // What the host's owner set for the agent wins.
    env.try_emplace("OMP_NUM_THREADS", absl::StrCat(ledger.ThreadsPerRank()));
    // libgomp's idle threads spin for milliseconds by default, and on a machine that is shared take
    // processors from the threads that they wait for. None at all makes each op wake them.
    if (!env.contains("OMP_WAIT_POLICY")) env.try_emplace("GOMP_SPINCOUNT", "20000");
    // A CPU trainer's tensors lie on the heap: huge pages save it page faults.
    if (gpus.empty()) env.try_emplace("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");
    env[kMarkVariable] = mark;
  }
  return environments;
}

}  // namespace liger::agent
