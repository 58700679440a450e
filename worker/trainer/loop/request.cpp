#include "worker/trainer/loop/request.h"

#include <unistd.h>

#include <filesystem>

#include "absl/strings/str_join.h"
#include "common/checkpoints.h"
#include "common/file.h"
#include "common/spec/spec.h"
#include "common/spec/violations.h"
#include "common/spec/yaml_proto.h"
#include "worker/trainer/error.h"
#include "worker/trainer/loop/output_check.h"
#include "worker/trainer/loop/paths.h"

namespace liger::trainer {
namespace {

constexpr int kLaunchVersion = 1;

void ThrowIfNotOk(const absl::Status& status) {
  if (status.ok()) return;
  throw ConfigError(std::string(status.message()), "correct the job file");
}

void RequireValid(const liger::v1::JobSpec& spec) {
  const std::vector<liger::v1::Violation> violations = ValidateSpec(spec);
  const absl::Status status = ViolationsToStatus(violations);
  if (status.ok()) return;
  throw ConfigError(std::string(status.message()), "correct the job file")
      .Field(violations[0].field());
}

void ApplyOverrides(const std::vector<std::string>& overrides, liger::v1::JobSpec* spec) {
  for (const std::string& text : overrides) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos) {
      throw ConfigError("--set " + text + ": expected field=value",
                        "for example --set training.learning_rate=1e-5");
    }
    ThrowIfNotOk(SetField(spec, text.substr(0, equals), text.substr(equals + 1)));
  }
}

void SetTrainer(const std::string& trainer, liger::v1::JobSpec* spec) {
  const auto* oneof = liger::v1::JobSpec::descriptor()->FindOneofByName("method");
  const auto* field = liger::v1::JobSpec::descriptor()->FindFieldByName(trainer);
  if (field == nullptr || field->containing_oneof() != oneof) {
    throw ConfigError("--trainer " + trainer + ": is no trainer",
                      "use one of " + absl::StrJoin(kTrainableMethods, ", "));
  }
  spec->GetReflection()->MutableMessage(spec, field);
}

std::string PublishFolder(const liger::v1::JobSpec& spec) {
  const std::string uri = spec.output().uri().empty() ? spec.name() : spec.output().uri();
  if (uri.empty()) {
    throw ConfigError("output.uri: is not set", "name the folder for the result, or pass --output")
        .Field("output.uri");
  }
  return std::filesystem::absolute(PathOfUri(uri, "output.uri")).lexically_normal().string();
}

bool IsCheckpointOf(const std::string& uri, const std::filesystem::path& folder,
                    const std::filesystem::path& checkpoints) {
  if (uri.empty()) return false;
  const auto path = std::filesystem::absolute(PathOfUri(uri, "training.resume_from_checkpoint"))
                        .lexically_normal();
  return path == folder || path == checkpoints || path.parent_path() == checkpoints;
}

// Two runs' checkpoints in one folder would not be told apart.
void RequireOwnCheckpoints(const std::string& folder, const liger::v1::JobSpec& spec) {
  const std::string checkpoints = folder + kCheckpointsSuffix;
  std::error_code error;
  const bool taken =
      std::filesystem::exists(checkpoints) && !std::filesystem::is_empty(checkpoints, error);
  if (spec.training().save_steps() == 0 || spec.output().overwrite() || !taken) return;
  if (IsCheckpointOf(spec.training().resume_from_checkpoint(), folder, checkpoints)) return;
  throw ConfigError("output.uri: '" + checkpoints + "' holds the checkpoints of an earlier run",
                    "go on from them with training.resume_from_checkpoint: " + folder +
                        ", choose another folder, or set output.overwrite: true")
      .Field("output.uri")
      .File(checkpoints);
}

}  // namespace

Request ReadLaunch(const std::string& path) {
  const absl::StatusOr<std::string> content = ReadFile(path);
  if (!content.ok()) throw ConfigError(std::string(content.status().message())).File(path);
  Request request;
  if (!request.launch.ParseFromString(*content)) {
    throw ConfigError(path + ": is not a trainer.v1.Launch message").File(path);
  }
  if (request.launch.version() != kLaunchVersion) {
    throw ConfigError(path + ": launch version " + std::to_string(request.launch.version()) +
                          ", this trainer understands " + std::to_string(kLaunchVersion),
                      "run the agent and the trainer of one release")
        .File(path);
  }
  RequireValid(request.spec());
  FillDefaults(request.launch.mutable_resolved_spec());
  return request;
}

Request ReadSpec(const SpecOptions& options) {
  Request request;
  liger::v1::JobSpec* spec = request.launch.mutable_resolved_spec();
  if (!options.spec_path.empty()) ThrowIfNotOk(LoadYaml(options.spec_path, spec));
  if (!options.trainer.empty()) SetTrainer(options.trainer, spec);
  ApplyOverrides(options.overrides, spec);
  if (!options.output.empty()) spec->mutable_output()->set_uri(options.output);
  RequireValid(*spec);
  FillDefaults(spec);
  request.launch.set_version(kLaunchVersion);
  request.launch.set_task_kind(options.check ? liger::trainer::v1::TASK_KIND_CHECK
                                             : liger::trainer::v1::TASK_KIND_TRAIN);
  const bool has_place = !spec->output().uri().empty() || !spec->name().empty();
  if (options.check) {
    if (has_place) request.launch.set_output_dir(PublishFolder(*spec));
    return request;
  }
  request.publish_to = PublishFolder(*spec);
  RequireFreeOutput(request.publish_to, *spec);  // before hours of training, not after
  RequireOwnCheckpoints(request.publish_to, *spec);
  request.launch.set_attempt_dir(request.publish_to + ".attempt-" + std::to_string(getpid()));
  return request;
}

}  // namespace liger::trainer
