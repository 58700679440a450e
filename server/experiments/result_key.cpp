#include "server/experiments/result_key.h"

#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/store/worker_files.h"

namespace liger::server {

std::string ResultKey(const liger::v1::JobSpec& resolved_spec, const std::string& spec_hash,
                      const WorkerRow& worker, const liger::worker::v1::DeviceInfo& device) {
  const std::vector<FileDigest> files = FileDigests(worker, resolved_spec);
  for (const FileDigest& file : files) {
    if (file.digest.empty()) return "";
  }
  if (spec_hash.empty() || worker.hello.build().empty() || device.model().empty()) return "";
  const auto append = [](std::string* out, const FileDigest& file) { *out += file.digest; };
  return absl::StrCat(spec_hash, "|", absl::StrJoin(files, "|", append), "|",
                      worker.hello.build(), "|", device.model(), "|", device.memory_bytes());
}

std::vector<std::string> PossibleKeys(const liger::v1::JobSpec& resolved_spec,
                                      const std::string& spec_hash,
                                      const std::vector<WorkerRow>& workers) {
  std::set<std::string> keys;
  for (const WorkerRow& worker : workers) {
    if (worker.state != WorkerState::kReady) continue;
    for (const auto& device : worker.hello.devices()) {
      if (device.kind() != resolved_spec.resources().device_kind()) continue;
      keys.insert(ResultKey(resolved_spec, spec_hash, worker, device));
    }
  }
  keys.erase("");
  return {keys.begin(), keys.end()};
}

}  // namespace liger::server
