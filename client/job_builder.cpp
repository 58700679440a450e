#include "client/job_builder.h"

#include <filesystem>
#include <iostream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/errors.h"
#include "common/file.h"
#include "common/spec/spec.h"
#include "common/spec/suggest.h"
#include "common/spec/yaml_proto.h"

namespace liger::client {
namespace {

using liger::v1::JobSpec;

std::string ReadInput(const std::string& file) {
  if (file == "-") return {std::istreambuf_iterator<char>(std::cin), {}};
  auto text = ReadFile(file, /*max_bytes=*/4 << 20);
  ThrowIfError(text.status());
  return *std::move(text);
}

std::vector<std::string> TrainerNames() {
  std::vector<std::string> names;
  const auto* oneof = JobSpec::descriptor()->FindOneofByName("method");
  for (int i = 0; i < oneof->field_count(); ++i) names.push_back(oneof->field(i)->name());
  return names;
}

// Chooses the method, keeping the file's hyper-parameters when it is the same.
void SetTrainer(const std::string& trainer, JobSpec* spec) {
  const auto* oneof = JobSpec::descriptor()->FindOneofByName("method");
  for (int i = 0; i < oneof->field_count(); ++i) {
    if (oneof->field(i)->name() != trainer) continue;
    spec->GetReflection()->MutableMessage(spec, oneof->field(i));
    return;
  }
  throw CliError(kInvalidInput, absl::StrCat("--trainer ", trainer, ": must be one of ",
                                             absl::StrJoin(TrainerNames(), ", "),
                                             DidYouMean(trainer, TrainerNames())));
}

void ApplySet(const std::string& assignment, const char* flag, const std::string& prefix,
              JobSpec* spec) {
  const size_t equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0) {
    throw CliError(kInvalidInput, absl::StrCat(flag, " ", assignment, ": must be KEY=VALUE"));
  }
  const std::string path = prefix + assignment.substr(0, equals);
  const absl::Status status = SetField(spec, path, assignment.substr(equals + 1));
  if (!status.ok()) {
    throw CliError(kInvalidInput, absl::StrCat(flag, " ", std::string(status.message())));
  }
}

// A path that exists here is what the user means by it; anything else is for
// the catalog or the worker to resolve.
void MakeAbsolute(std::string* path) {
  const bool looks_local = path->find('/') != std::string::npos || path->find('.') == 0;
  std::error_code error;
  if (looks_local && path->find("://") == std::string::npos &&
      std::filesystem::exists(*path, error)) {
    *path = std::filesystem::absolute(*path).lexically_normal().string();
  }
}

}  // namespace

JobSpec BuildSpec(const SpecFlags& flags) {
  JobSpec spec;
  if (!flags.file.empty()) {
    ThrowIfError(ViolationsToStatus(ParseYaml(ReadInput(flags.file), flags.file, &spec)));
  }
  if (!flags.trainer.empty()) SetTrainer(flags.trainer, &spec);
  if (!flags.name.empty()) spec.set_name(flags.name);
  if (!flags.model.empty()) {
    spec.mutable_model()->clear_uri();
    spec.mutable_model()->set_name(flags.model);
  }
  if (!flags.dataset.empty()) {
    spec.mutable_dataset()->clear_uri();
    spec.mutable_dataset()->set_name(flags.dataset);
  }
  if (!flags.output.empty()) spec.mutable_output()->set_uri(flags.output);
  if (!flags.kernels.empty()) ApplySet("kernels.mode=" + flags.kernels, "--kernels", "", &spec);
  if (!flags.device.empty()) {
    ApplySet("resources.device_kind=" + flags.device, "--device", "", &spec);
  }
  for (const std::string& label : flags.labels) ApplySet(label, "--label", "labels.", &spec);
  for (const std::string& set : flags.sets) ApplySet(set, "--set", "", &spec);
  if (spec.has_model()) MakeAbsolute(spec.mutable_model()->mutable_name());
  if (spec.has_dataset()) MakeAbsolute(spec.mutable_dataset()->mutable_name());
  return spec;
}

}  // namespace liger::client
