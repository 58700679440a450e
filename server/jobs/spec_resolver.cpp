#include "server/jobs/spec_resolver.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/spec/spec.h"
#include "server/errors/errors.h"

namespace liger::server {
namespace {

constexpr size_t kMaxNameLength = 63;

// Devices of a kind on the workers that are connected, in use or free.
int64_t CountDevices(const std::vector<WorkerRow>& workers, liger::v1::DeviceKind kind) {
  int64_t count = 0;
  for (const WorkerRow& worker : workers) {
    if (worker.state != WorkerState::kReady) continue;
    const auto& devices = worker.hello.devices();
    count += std::count_if(devices.begin(), devices.end(),
                           [kind](const auto& device) { return device.kind() == kind; });
  }
  return count;
}

// Why a job has to wait for machines that are not there; "" when it has not.
std::string DevicesMissing(const std::vector<WorkerRow>& workers,
                           const liger::v1::ResourceSpec& resources) {
  const bool cuda = resources.device_kind() == liger::v1::DEVICE_KIND_CUDA;
  const int64_t present = CountDevices(workers, resources.device_kind());
  if (present == 0) {
    return absl::StrCat("no worker with a ", cuda ? "GPU" : "CPU slot",
                        " is connected: the job waits until one is");
  }
  if (resources.count() <= present) return "";
  return absl::StrCat("resources.count: ", resources.count(), " ", cuda ? "GPUs" : "CPU slots",
                      " are asked for and the connected workers have ", present,
                      ": the job waits until there are as many",
                      cuda ? "" : " (a worker's --cpu-slots, also of liger-cli up)");
}

// "<model>-<trainer>-<suffix>" in the characters that names may have.
std::string DefaultName(const liger::v1::JobSpec& spec, const std::string& suffix) {
  const std::string& model = spec.model().name().empty() ? spec.model().uri() : spec.model().name();
  absl::string_view base = absl::StripSuffix(model, "/");
  base = base.substr(base.rfind('/') + 1);
  const std::string tail = absl::StrCat("-", MethodName(spec), "-", suffix);
  std::string name = absl::AsciiStrToLower(base.substr(0, kMaxNameLength - tail.size()));
  for (char& c : name) {
    if (!absl::ascii_isalnum(c)) c = '-';
  }
  name.erase(0, name.find_first_not_of('-'));
  if (name.empty()) name = "job";
  return absl::StrCat(name, tail);
}

}  // namespace

absl::StatusOr<ResolvedSpec> ResolveSpec(const liger::v1::JobSpec& spec, const Catalog& catalog,
                                         const std::vector<WorkerRow>& workers,
                                         const std::string& name_suffix) {
  ResolvedSpec resolved;
  resolved.spec = spec;
  // Pinned first, so that the validation sees what will run.
  CatalogResolution names = catalog.Resolve(&resolved.spec);
  std::vector<liger::v1::Violation> violations = ValidateSpec(resolved.spec);
  std::move(names.violations.begin(), names.violations.end(), std::back_inserter(violations));
  if (!violations.empty()) return InvalidArgument(violations);
  resolved.notices = std::move(names.notices);

  if (resolved.spec.name().empty()) resolved.spec.set_name(DefaultName(resolved.spec, name_suffix));
  liger::v1::ResourceSpec* resources = resolved.spec.mutable_resources();
  if (resources->device_kind() == liger::v1::DEVICE_KIND_UNSPECIFIED) {
    const bool cuda = CountDevices(workers, liger::v1::DEVICE_KIND_CUDA) > 0;
    resources->set_device_kind(cuda ? liger::v1::DEVICE_KIND_CUDA : liger::v1::DEVICE_KIND_CPU);
    resolved.notices.push_back(cuda ? "device: GPU" : "device: CPU, no worker has a GPU");
  }
  FillDefaults(&resolved.spec);
  resolved.warnings = SpecWarnings(resolved.spec);
  const std::string missing = DevicesMissing(workers, resolved.spec.resources());
  if (!missing.empty()) resolved.notices.push_back(missing);
  resolved.hash = SpecHash(resolved.spec);
  return resolved;
}

}  // namespace liger::server
