#include "worker/agent/trainer_environment.h"

#include <unistd.h>

#include <algorithm>

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

std::vector<std::map<std::string, std::string>> TrainerEnvironments(
    const std::map<std::string, std::string>& base, const worker::v1::Prepare& prepare,
    const worker::v1::Master& master, const DeviceLedger& ledger, const std::string& mark) {
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
