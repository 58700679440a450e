#include "server/experiments/result_key.h"

#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/scheduler/scheduler.h"

namespace liger::server {
namespace {

// Digests of every file that the job reads; one is empty where it is not known.
std::vector<std::string> Digests(const liger::v1::JobSpec& spec, const WorkerRow& worker) {
  // Random weights of a known shape need no folder; one that is there is read.
  std::string model = ModelDigest(worker, spec.model().uri());
  if (model.empty() && NeedsNoModelFolder(spec)) model = "shape";
  std::vector<std::string> digests = {model};
  if (spec.dataset().sources().empty()) {
    digests.push_back(DatasetDigest(worker, spec.dataset().uri()));
  }
  for (const auto& source : spec.dataset().sources()) {
    digests.push_back(DatasetDigest(worker, source.uri()));
  }
  if (!spec.dataset().eval_uri().empty()) {
    digests.push_back(DatasetDigest(worker, spec.dataset().eval_uri()));
  }
  // Those are not in the inventory.
  if (!spec.lora().adapter_uri().empty()) digests.emplace_back();
  if (!spec.training().resume_from_checkpoint().empty()) digests.emplace_back();
  return digests;
}

}  // namespace

std::string ResultKey(const liger::v1::JobSpec& resolved_spec, const std::string& spec_hash,
                      const WorkerRow& worker, const std::string& device_model) {
  const std::vector<std::string> digests = Digests(resolved_spec, worker);
  for (const std::string& digest : digests) {
    if (digest.empty()) return "";
  }
  if (spec_hash.empty() || worker.hello.build().empty() || device_model.empty()) return "";
  return absl::StrCat(spec_hash, "|", absl::StrJoin(digests, "|"), "|", worker.hello.build(), "|",
                      device_model);
}

std::vector<std::string> PossibleKeys(const liger::v1::JobSpec& resolved_spec,
                                      const std::string& spec_hash,
                                      const std::vector<WorkerRow>& workers) {
  std::set<std::string> keys;
  for (const WorkerRow& worker : workers) {
    if (worker.state != WorkerState::kReady) continue;
    for (const auto& device : worker.hello.devices()) {
      if (device.kind() != resolved_spec.resources().device_kind()) continue;
      keys.insert(ResultKey(resolved_spec, spec_hash, worker, device.model()));
    }
  }
  keys.erase("");
  return {keys.begin(), keys.end()};
}

}  // namespace liger::server
