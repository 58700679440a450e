#include "server/experiments/result_key.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/store/worker_files.h"

namespace liger::server {

namespace {

std::string Key(const std::string& spec_hash, const std::vector<FileDigest>& files,
                const std::string& build, const liger::worker::v1::DeviceInfo& device) {
  for (const FileDigest& file : files) {
    if (file.digest.empty()) return "";
  }
  if (spec_hash.empty() || build.empty() || device.model().empty()) return "";
  const auto append = [](std::string* out, const FileDigest& file) { *out += file.digest; };
  return absl::StrCat(spec_hash, "|", absl::StrJoin(files, "|", append), "|", build, "|",
                      device.model(), "|", device.memory_bytes());
}

}  // namespace

std::string PlannedKey(const liger::v1::JobSpec& resolved_spec, const std::string& spec_hash,
                       const WorkerRow& worker, const liger::worker::v1::DeviceInfo& device) {
  return Key(spec_hash, FileDigests(worker, resolved_spec), worker.hello.build(), device);
}

std::string ResultKey(const liger::v1::JobSpec& resolved_spec, const std::string& spec_hash,
                      const std::vector<RanAttempt>& attempts) {
  const size_t count = static_cast<size_t>(std::max(1, resolved_spec.resources().count()));
  std::set<std::string> keys;
  for (const RanAttempt& attempt : attempts) {
    const auto& said = attempt.environment.versions();
    // An elastic job may have had fewer.
    if (said.contains("clock") || attempt.devices.size() != count) return "";
    std::vector<FileDigest> files = FileDigests(WorkerRow(), resolved_spec);
    for (FileDigest& file : files) {
      const auto found = said.find(file.name);
      file.digest = found == said.end() ? "" : found->second;
    }
    for (const auto& device : attempt.devices) {
      keys.insert(Key(spec_hash, files, attempt.environment.build(), device));
    }
  }
  return keys.size() == 1 ? *keys.begin() : "";
}

std::vector<std::string> PossibleKeys(const liger::v1::JobSpec& resolved_spec,
                                      const std::string& spec_hash,
                                      const std::vector<WorkerRow>& workers) {
  std::set<std::string> keys;
  for (const WorkerRow& worker : workers) {
    if (worker.state != WorkerState::kReady) continue;
    for (const auto& device : worker.hello.devices()) {
      if (device.kind() != resolved_spec.resources().device_kind()) continue;
      keys.insert(PlannedKey(resolved_spec, spec_hash, worker, device));
    }
  }
  keys.erase("");
  return {keys.begin(), keys.end()};
}

}  // namespace liger::server
