#include "client/job_builder.h"

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/errors.h"
#include "client/local_file.h"
#include "common/data_files.h"
#include "common/spec/spec.h"
#include "common/spec/suggest.h"
#include "common/spec/violations.h"
#include "common/spec/yaml_proto.h"
#include "liger/v1/experiments.pb.h"

namespace liger::client {
namespace {

namespace fs = std::filesystem;
using liger::v1::JobSpec;

// Chooses the method, keeping the file's hyper-parameters when it is the same.
void SetTrainer(const std::string& trainer, JobSpec* spec) {
  const std::vector<std::string> trainable(std::begin(kTrainableMethods),
                                           std::end(kTrainableMethods));
  const auto* field = JobSpec::descriptor()->FindFieldByName(trainer);
  if (field != nullptr &&
      std::find(trainable.begin(), trainable.end(), trainer) != trainable.end()) {
    spec->GetReflection()->MutableMessage(spec, field);
    return;
  }
  throw CliError(kInvalidInput,
                 absl::StrCat("--trainer ", trainer, ": must be one of ",
                              absl::StrJoin(trainable, ", "), DidYouMean(trainer, trainable)));
}

// A path that exists here is what the user means by it; anything else is for
// the catalog or the worker to resolve. A plain name has to be `such` a thing as
// the field wants, too.
void MakeAbsolute(const char* field, bool (*such)(const fs::path&), std::string* name,
                  std::vector<std::string>* notes) {
  std::error_code error;
  const bool is_uri = name->find("://") != std::string::npos;
  const bool exists = fs::exists(*name, error) || (IsPattern(*name) && MatchDataFiles(*name).ok());
  if (name->empty() || is_uri || !exists) return;
  if (!LooksLikePath(*name) && !such(*name)) return;
  const std::string path = fs::absolute(*name).lexically_normal().string();
  if (!LooksLikePath(*name)) {
    notes->push_back(absl::StrCat(field, " ", *name, ": taking ", path, ", which exists here"));
  }
  *name = path;
}

bool IsModelFolder(const fs::path& path) {
  std::error_code error;
  return fs::exists(path / "config.json", error);
}

// A file, or a folder that holds some.
bool IsDataset(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error) && MatchDataFiles(path.string()).ok();
}

void MakeDatasetAbsolute(liger::v1::DatasetSpec* dataset, std::vector<std::string>* notes) {
  MakeAbsolute("dataset", IsDataset, dataset->mutable_name(), notes);
  MakeAbsolute("dataset.eval_uri", IsDataset, dataset->mutable_eval_uri(), notes);
  for (int i = 0; i < dataset->sources_size(); ++i) {
    MakeAbsolute(absl::StrCat("dataset.sources[", i, "].uri").c_str(), IsDataset,
                 dataset->mutable_sources(i)->mutable_uri(), notes);
  }
}

}  // namespace

std::vector<liger::v1::Violation> ParseFileOf(const std::string& file,
                                              google::protobuf::Message* message,
                                              const google::protobuf::Descriptor& other,
                                              const std::string& verb_of_other) {
  std::vector<liger::v1::Violation> violations = ParseYaml(ReadInput(file), file, message);
  for (liger::v1::Violation& violation : violations) {
    const bool mine = message->GetDescriptor()->FindFieldByName(violation.field()) != nullptr;
    if (mine || other.FindFieldByName(violation.field()) == nullptr) continue;
    violation.set_message(absl::StrCat("is not a field here; is the file for: liger-cli ",
                                       verb_of_other, " -f ", file, "?"));
  }
  return violations;
}

std::string ReadInput(const std::string& file) {
  if (file == "-") return {std::istreambuf_iterator<char>(std::cin), {}};
  return ReadLocalFile(file);
}

void ApplySet(const std::string& assignment, const std::string& flag, const std::string& prefix,
              google::protobuf::Message* message) {
  const size_t equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0) {
    throw CliError(kInvalidInput, absl::StrCat(flag, " ", assignment, ": must be KEY=VALUE"));
  }
  const std::string path = prefix + assignment.substr(0, equals);
  const absl::Status status = SetField(message, path, assignment.substr(equals + 1));
  if (!status.ok()) {
    throw CliError(kInvalidInput, absl::StrCat(flag, " ", std::string(status.message())));
  }
}

void UseLocalPaths(JobSpec* spec, std::vector<std::string>* notes) {
  if (spec->has_model()) {
    MakeAbsolute("model", IsModelFolder, spec->mutable_model()->mutable_name(), notes);
  }
  if (spec->has_dataset()) MakeDatasetAbsolute(spec->mutable_dataset(), notes);
}

JobSpec BuildSpec(const SpecFlags& flags, std::vector<std::string>* notes) {
  JobSpec spec;
  if (!flags.file.empty()) {
    ThrowIfError(ViolationsToStatus(ParseFileOf(
        flags.file, &spec, *liger::v1::ExperimentSpec::descriptor(), "experiment submit")));
  }
  if (!flags.trainer.empty()) SetTrainer(flags.trainer, &spec);
  if (!flags.name.empty()) spec.set_name(flags.name);
  if (!flags.model.empty()) {
    spec.mutable_model()->clear_uri();
    spec.mutable_model()->set_name(flags.model);
  }
  if (!flags.dataset.empty()) {
    spec.mutable_dataset()->clear_uri();
    spec.mutable_dataset()->clear_sources();
    spec.mutable_dataset()->set_name(flags.dataset);
  }
  if (!flags.output.empty()) spec.mutable_output()->set_uri(flags.output);
  if (!flags.kernels.empty()) ApplySet("kernels.mode=" + flags.kernels, "--kernels", "", &spec);
  if (!flags.device.empty()) {
    ApplySet("resources.device_kind=" + flags.device, "--device", "", &spec);
  }
  for (const std::string& label : flags.labels) ApplySet(label, "--label", "labels.", &spec);
  for (const std::string& set : flags.sets) ApplySet(set, "--set", "", &spec);
  UseLocalPaths(&spec, notes);
  return spec;
}

}  // namespace liger::client
