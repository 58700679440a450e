#include "worker/agent/input_policy.h"

#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/checkpoints.h"

namespace liger::agent {
namespace {

v1::Failure ConfigFailure(const std::string& field, absl::string_view message, std::string action) {
  v1::Failure failure;
  failure.set_class_(v1::FAILURE_CLASS_CONFIG);
  failure.set_field(field);
  failure.set_message(absl::StrCat(field, ": ", message));
  failure.set_action(std::move(action));
  return failure;
}

// Set by resolution; a name with a slash is a path that stands for itself.
std::string InputUri(const std::string& uri, const std::string& name) {
  if (!uri.empty()) return uri;
  return absl::StrContains(name, '/') ? name : "";
}

// What the user gave: a name, which resolution may have pinned to a URI, or that.
std::string InputField(const char* section, const std::string& name) {
  return absl::StrCat(section, name.empty() ? ".uri" : ".name");
}

std::optional<v1::Failure> CheckOutput(const v1::JobSpec& spec, const Services& services,
                                       bool check, bool again) {
  const std::string& output = spec.output().uri();
  if (output.empty()) return std::nullopt;
  const absl::Status there = services.output_root->Check(output);
  // Not there is fine; out of the root, or below a file, is not.
  if (!there.ok() && !absl::IsNotFound(there)) {
    return ConfigFailure("output.uri", there.message(),
                         absl::StrCat("Name a folder below this worker's output root (",
                                      services.output_root->path(), ")"));
  }
  if (there.ok() && !again && !spec.output().overwrite()) {
    return ConfigFailure("output.uri", absl::StrCat("'", output, "' exists already"),
                         "Choose another output.uri, or set output.overwrite");
  }
  const bool saves = check && spec.training().save_steps() > 0 && !spec.output().overwrite();
  if (saves && services.output_root->Check(output + kCheckpointsSuffix).ok()) {
    return ConfigFailure(
        "output.uri",
        absl::StrCat("'", output, kCheckpointsSuffix, "' holds the checkpoints of another job"),
        "Choose another output.uri, or set output.overwrite");
  }
  return std::nullopt;
}

}  // namespace

std::vector<const Root*> InputRoots(const Services& services) {
  return {services.model_root, services.dataset_root, services.output_root};
}

absl::StatusOr<std::string> CheckpointPath(const std::string& uri, const Services& services) {
  const bool absolute = absl::StartsWith(uri, "file://") || absl::StartsWith(uri, "/");
  std::vector<const Root*> roots = {services.output_root, services.model_root,
                                    services.dataset_root};
  if (absolute) {
    roots.insert(roots.end(), services.allowed_roots.begin(), services.allowed_roots.end());
  }
  absl::StatusOr<std::string> first = absl::PermissionDeniedError(
      absl::StrCat("'", uri, "' lies outside of the folders that this worker may read"));
  for (const Root* root : roots) {
    const absl::StatusOr<std::string> relative = root->Relative(uri);
    if (!relative.ok()) continue;
    // A job's folder may stand for its checkpoints before it is there itself.
    const absl::Status there = root->Check(*relative);
    const absl::Status beside = root->Check(*relative + kCheckpointsSuffix);
    if (absl::IsPermissionDenied(there) || absl::IsPermissionDenied(beside)) continue;
    std::string path = absl::StrCat(root->path(), "/", *relative);
    if (there.ok() || beside.ok()) return path;
    if (!first.ok()) first = std::move(path);
  }
  return first;
}

std::optional<v1::Failure> CheckSpecPaths(const v1::JobSpec& spec, const Services& services,
                                          bool check, bool again) {
  const std::vector<const Root*> roots = InputRoots(services);
  std::vector<std::pair<std::string, std::string>> inputs = {
      {InputField("model", spec.model().name()), InputUri(spec.model().uri(), spec.model().name())},
      {InputField("dataset", spec.dataset().name()),
       InputUri(spec.dataset().uri(), spec.dataset().name())},
      {"dataset.eval_uri", spec.dataset().eval_uri()},
      {"lora.adapter_uri", spec.lora().adapter_uri()}};
  for (int i = 0; i < spec.dataset().sources_size(); ++i) {
    inputs.emplace_back(absl::StrCat("dataset.sources[", i, "].uri"),
                        spec.dataset().sources(i).uri());
  }
  for (const auto& [field, uri] : inputs) {
    if (uri.empty()) continue;
    if (absl::Status s = CheckInputUri(uri, roots, services.allowed_roots); !s.ok()) {
      return ConfigFailure(
          field, s.message(),
          absl::StrCat("Put it below this worker's model root (", services.model_root->path(),
                       "), dataset root (", services.dataset_root->path(),
                       ") or output root (", services.output_root->path(),
                       "), or start the worker with --allow-path FOLDER"));
    }
  }
  const std::string& checkpoint = spec.training().resume_from_checkpoint();
  if (!checkpoint.empty()) {
    const auto path = CheckpointPath(checkpoint, services);
    if (!path.ok()) {
      return ConfigFailure("training.resume_from_checkpoint", path.status().message(),
                           absl::StrCat("Name one below this worker's output root (",
                                        services.output_root->path(), ")"));
    }
  }
  return CheckOutput(spec, services, check, again);
}

}  // namespace liger::agent
