#include "worker/trainer/loop/resume_spec.h"

#include <google/protobuf/util/json_util.h>
#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <string_view>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/spec/spec.h"
#include "worker/trainer/error.h"
#include "worker/trainer/json_file.h"
#include "worker/trainer/loop/checkpoint_files.h"

namespace liger::trainer {
namespace {

using liger::v1::JobSpec;

// Fields of training that a run keeps to its end.
constexpr std::string_view kTraining[] = {
    "optim",         "seed",          "data_seed",      "max_length",      "truncation_mode",
    "storage_dtype", "compute_dtype", "gradient_dtype", "optimizer_dtype", "group_by_length"};

// What must be equal for the run to be the same one further on. The length of
// training, batch sizes, the learning rate and what is reported may change.
JobSpec Essence(const JobSpec& spec) {
  JobSpec essence;
  if (const auto* method = spec.GetReflection()->GetOneofFieldDescriptor(
          spec, JobSpec::descriptor()->FindOneofByName("method"))) {
    essence.GetReflection()
        ->MutableMessage(&essence, method)
        ->CopyFrom(spec.GetReflection()->GetMessage(spec, method));
  }
  *essence.mutable_model() = spec.model();
  essence.mutable_model()->clear_digest();
  *essence.mutable_dataset() = spec.dataset();
  essence.mutable_dataset()->clear_digest();
  essence.mutable_dataset()->clear_strict();
  essence.mutable_dataset()->clear_eval_uri();
  essence.mutable_dataset()->clear_max_eval_samples();
  if (spec.has_lora()) {
    *essence.mutable_lora() = spec.lora();
    essence.mutable_lora()->clear_merge();  // at the end
  }
  liger::v1::TrainingSpec* training = essence.mutable_training();
  *training = spec.training();
  std::vector<const google::protobuf::FieldDescriptor*> set;
  training->GetReflection()->ListFields(*training, &set);
  for (const auto* field : set) {
    const bool matters =
        std::find(std::begin(kTraining), std::end(kTraining), field->name()) != std::end(kTraining);
    if (!matters) training->GetReflection()->ClearField(training, field);
  }
  return essence;
}

// A line of MessageDifferencer's report, as "field: before -> now". A section that only one has is
// not printed whole.
std::string Described(std::string line) {
  const size_t kind = line.find(": ");
  if (kind == std::string::npos) return line;
  const std::string what = line.substr(0, kind);
  line = line.substr(kind + 2);
  if (what != "added" && what != "deleted") return line;
  const size_t name = line.find(": ");
  if (name == std::string::npos) return line;
  std::string value = line.substr(name + 2);
  if (value.starts_with("{")) value = "given";
  constexpr char kNotGiven[] = "not given";
  return line.substr(0, name + 2) +
         (what == "added" ? kNotGiven + (" -> " + value) : value + " -> " + kNotGiven);
}

JobSpec SpecOf(const std::string& dir) {
  const std::string path = (std::filesystem::path(dir) / kSpecFile).string();
  JobSpec spec;
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;
  const auto status =
      google::protobuf::util::JsonStringToMessage(ReadTextFile(path), &spec, options);
  if (!status.ok()) {
    throw ConfigError(path + " is no job spec: " + std::string(status.message()),
                      "resume from another checkpoint")
        .File(path);
  }
  FillDefaults(&spec);  // fields that the release that wrote it did not have
  return spec;
}

}  // namespace

void RequireOfThisRun(const std::string& dir, const JobSpec& now) {
  const JobSpec before = SpecOf(dir);
  std::string differences;
  if (MethodName(before) != MethodName(now)) {
    differences = "method: " + MethodName(before) + " -> " + MethodName(now);
  } else {
    google::protobuf::util::MessageDifferencer differencer;
    differencer.ReportDifferencesToString(&differences);
    if (differencer.Compare(Essence(before), Essence(now))) return;
    std::vector<std::string> lines = absl::StrSplit(differences, '\n', absl::SkipEmpty());
    for (std::string& line : lines) line = Described(line);
    differences = absl::StrJoin(lines, "; ");
  }
  throw ConfigError(
      "checkpoint " + dir + " is of another run: " + differences,
      std::string("resume with the settings that the run was started with, or start a "
                  "new one from the ") +
          (before.has_lora() ? "adapter in the checkpoint (lora.adapter_uri)"
                             : "model in the checkpoint (model.uri)"))
      .Field("training.resume_from_checkpoint")
      .File(dir);
}

}  // namespace liger::trainer
