#include "worker/trainer/loop/resume.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <google/protobuf/util/json_util.h>
#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <string_view>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/spec/spec.h"
#include "worker/trainer/checkpoint/adapter_folder.h"
#include "worker/trainer/checkpoint/output_folder.h"
#include "worker/trainer/checkpoint/safetensors.h"
#include "worker/trainer/checkpoint/saved_tensors.h"
#include "worker/trainer/checkpoint/weights.h"
#include "worker/trainer/error.h"
#include "worker/trainer/json_file.h"
#include "worker/trainer/loop/checkpoint_files.h"
#include "worker/trainer/loop/paths.h"
#include "worker/trainer/loop/random_state.h"
#include "worker/trainer/models/weights.h"
#include "worker/trainer/ticks.h"

namespace liger::trainer {
namespace {

namespace fs = std::filesystem;
using liger::v1::JobSpec;

constexpr char kField[] = "training.resume_from_checkpoint";
// Fields of training that a run keeps to its end.
constexpr std::string_view kTraining[] = {
    "optim",         "seed",          "data_seed",      "max_length",      "truncation_mode",
    "storage_dtype", "compute_dtype", "gradient_dtype", "optimizer_dtype", "group_by_length"};

// A checkpoint, or the newest one of a folder of them or of a job's output folder.
std::string ResolveCheckpoint(const std::string& uri) {
  const fs::path path = fs::absolute(PathOfUri(uri, kField)).lexically_normal();
  if (fs::exists(path / kRunStateFile)) return path.string();
  const fs::path whole = path.has_filename() ? path : path.parent_path();
  for (const fs::path& folder : {whole, fs::path(whole.string() + kCheckpointsSuffix)}) {
    const std::vector<std::string> checkpoints = CheckpointsIn(folder.string());
    if (!checkpoints.empty()) return checkpoints.front();
  }
  throw ConfigError(std::string(kField) + ": '" + uri + "' " +
                        (fs::exists(whole) ? "holds no checkpoint" : "does not exist"),
                    "name a checkpoint-<step> folder, or the output folder of a job that was "
                    "run with training.save_steps")
      .Field(kField)
      .File(uri);
}

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
  if (spec.has_lora()) *essence.mutable_lora() = spec.lora();
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

JobSpec SpecOf(const std::string& dir) {
  const std::string path = (fs::path(dir) / kSpecFile).string();
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

void RequireFits(const std::string& dir, const JobSpec& now) {
  const JobSpec before = SpecOf(dir);
  std::string differences;
  if (MethodName(before) != MethodName(now)) {
    differences = "method: " + MethodName(before) + " -> " + MethodName(now);
  } else {
    google::protobuf::util::MessageDifferencer differencer;
    differencer.ReportDifferencesToString(&differences);
    if (differencer.Compare(Essence(before), Essence(now))) return;
    std::vector<std::string> lines = absl::StrSplit(differences, '\n', absl::SkipEmpty());
    for (std::string& line : lines) {
      if (line.starts_with("modified: ")) line = line.substr(10);
    }
    differences = absl::StrJoin(lines, "; ");
  }
  throw ConfigError("checkpoint " + dir + " is of another run: " + differences,
                    "resume with the settings that the run was started with, or start a new one "
                    "from the model in the checkpoint (model.uri)")
      .Field(kField)
      .File(dir);
}

ResumePoint OpenCheckpoint(const std::string& dir, const JobSpec& spec) {
  if (!fs::exists(fs::path(dir) / kRunStateFile)) {
    throw ConfigError("checkpoint " + dir + " is not there", "name one that is").File(dir);
  }
  RequireFits(dir, spec);
  VerifyManifest(dir);
  return {dir, RunState::FromFile((fs::path(dir) / kRunStateFile).string())};
}

// The one that the coordinator names, and those before it.
std::vector<std::string> WithOlderOnes(const fs::path& checkpoint) {
  std::vector<std::string> dirs = {checkpoint.string()};
  const auto newest = CheckpointStep(checkpoint.filename().string());
  for (const std::string& other : CheckpointsIn(checkpoint.parent_path().string())) {
    const auto step = CheckpointStep(fs::path(other).filename().string());
    if (newest && *step < *newest) dirs.push_back(other);
  }
  return dirs;
}

// Copies a file's tensors into `targets`, whose names are those in the file.
void CopyFile(const std::string& path, const std::vector<NamedTensor>& targets) {
  const auto file = SafetensorsFile::Open(path);
  for (const NamedTensor& target : targets) {
    const auto it = file->tensors().find(target.name);
    if (it == file->tensors().end() || it->second.shape != target.tensor.sizes().vec()) {
      throw ConfigError(path + ": tensor '" + target.name + "' " +
                            (it == file->tensors().end() ? "is missing" : "has another shape"),
                        "resume from a checkpoint of the same model")
          .File(path);
    }
    file->CopyInto(target.name, target.tensor);
  }
}

// What is trained, under its own names.
std::vector<NamedTensor> TrainedTargets(const TrainableModel& trainable) {
  std::vector<NamedTensor> targets;
  for (const auto& entry : trainable.parameters->entries()) {
    targets.push_back({entry.name, entry.storage.detach()});
  }
  return targets;
}

std::vector<NamedTensor> ParameterTargets(const TrainableModel& trainable) {
  std::vector<NamedTensor> targets;
  for (const auto& entry : trainable.parameters->entries()) {
    const auto pieces =
        CheckpointTensors(trainable.model->config(), entry.name, entry.storage.detach());
    targets.insert(targets.end(), pieces.begin(), pieces.end());
  }
  return targets;
}

// Of one tensor a parameter each, under the parameter's name behind `prefix`; `where` for messages.
FillRange FillRangesFrom(std::shared_ptr<const SavedTensors> saved, const std::string& prefix,
                         const std::string& where) {
  return [=](const std::string& name, const std::vector<int64_t>& shape, int64_t begin,
             at::Tensor range) {
    const auto it = saved->shapes().find(prefix + name);
    if (it == saved->shapes().end() || it->second != shape) {
      throw ConfigError(where + ": tensor '" + prefix + name + "' " +
                            (it == saved->shapes().end() ? "is missing" : "has another shape"),
                        "resume from a checkpoint of the same model")
          .File(where);
    }
    range.copy_(saved->Range(it->first, begin, range.numel()));
  };
}

// Of every parameter that is trained, what this rank has of it and no more.
void RestoreRanges(const TrainableModel& trainable, const FillRange& fill) {
  for (const auto& entry : trainable.parameters->entries()) {
    if (entry.storage.numel() == 0) continue;
    const at::Tensor range = entry.storage.detach().view(-1);
    fill(entry.name, entry.part ? entry.part->shape : entry.storage.sizes().vec(),
         entry.part ? entry.part->begin : 0, range);
    Tick();
  }
}

FillRange FillShards(const std::string& dir, const TrainableModel& trainable) {
  if (!trainable.lora) return FillRangesFromFolder(*trainable.model, dir);
  const std::string path = (fs::path(dir) / kAdapterWeights).string();
  return FillRangesFrom(OpenSavedTensors(path), kAdapterPrefix, path);
}

std::map<std::string, at::Tensor> WholeOf(const SavedTensors& saved) {
  std::map<std::string, at::Tensor> tensors;
  for (const auto& [name, shape] : saved.shapes()) tensors[name] = saved.Whole(name);
  return tensors;
}

bool InShards(const std::string& dir) { return fs::exists(fs::path(dir) / kShardsFile); }

// Whether it was changed or cut after it was written; reading all of it tells.
bool IsDamaged(const std::string& dir) {
  try {
    VerifyManifest(dir);
  } catch (const DamagedFolder&) {
    return true;
  } catch (const TrainerError&) {  // it cannot be read just now
  }
  return false;
}

// Puts a damaged checkpoint of this job where nothing takes it for one, and says where that is.
void SetAside(const std::string& dir, liger::v1::Warning* warning) {
  const std::string aside = dir + kDamagedSuffix;
  std::error_code error;
  fs::remove_all(aside, error);
  fs::rename(dir, aside, error);
  warning->set_file(error ? dir : aside);
  warning->mutable_message()->append(error ? "; it cannot be set aside: " + error.message()
                                           : "; it is now " + aside);
}

liger::v1::Warning NotResumed(const std::string& message) {
  liger::v1::Warning warning;
  warning.set_code(kNotResumedCode);
  warning.set_message(message);
  return warning;
}

}  // namespace

std::optional<ResumePoint> FindResumePoint(const Request& request,
                                           std::vector<liger::v1::Warning>* warnings) {
  const std::string& known = request.launch.resume_from();
  if (!known.empty()) {
    for (const std::string& dir : WithOlderOnes(known)) {
      try {
        return OpenCheckpoint(dir, request.spec());
      } catch (const TrainerError& error) {
        warnings->push_back(
            NotResumed(std::string("cannot go on from a checkpoint: ") + error.what()));
        if (fs::exists(dir) && IsDamaged(dir)) SetAside(dir, &warnings->back());
      }
    }
    warnings->push_back(
        NotResumed("no checkpoint of the attempt before can be read here; it starts again"));
  }
  const std::string& named = request.spec().training().resume_from_checkpoint();
  if (named.empty()) return std::nullopt;
  return OpenCheckpoint(ResolveCheckpoint(named), request.spec());
}

ResumePoint ResumePointOf(const std::string& dir) {
  return {dir, RunState::FromFile((fs::path(dir) / kRunStateFile).string())};
}

void RestoreParameters(const std::string& dir, const TrainableModel& trainable) {
  const at::NoGradGuard no_grad;
  const fs::path alone = fs::path(dir) / kTrainableFile;
  if (InShards(dir)) {
    const std::string list = (fs::path(dir) / kShardsFile).string();
    RestoreRanges(trainable, FillRangesFrom(OpenShards(dir).parameters, "", list));
  } else if (trainable.sharding) {
    RestoreRanges(trainable, FillShards(dir, trainable));
  } else if (fs::exists(alone)) {
    CopyFile(alone.string(), TrainedTargets(trainable));
  } else if (trainable.lora) {
    std::vector<NamedTensor> targets = TrainedTargets(trainable);
    for (NamedTensor& target : targets) target.name = kAdapterPrefix + target.name;
    CopyFile((fs::path(dir) / kAdapterWeights).string(), targets);
  } else {
    WeightReader::Open(dir).LoadInto(ParameterTargets(trainable), /*ignorable=*/nullptr);
  }
  trainable.parameters->RefreshCompute();
}

void RestoreReference(const std::string& checkpoint, const TrainableModel& trainable,
                      CausalLM& reference) {
  const at::NoGradGuard no_grad;
  const bool in_shards = InShards(checkpoint);
  const std::string where =
      (fs::path(checkpoint) / (in_shards ? kShardsFile : kReferenceFile)).string();
  std::shared_ptr<const SavedTensors> saved =
      in_shards ? OpenShards(checkpoint).reference : OpenSavedTensors(where);
  const FillRange fill =
      FillRangesFrom(std::move(saved), in_shards ? kReferencePrefix : "", where);
  if (!trainable.sharding) {
    for (const auto& [name, tensor] : NamedLeaves(reference)) {
      fill(name, tensor.sizes().vec(), 0, tensor.detach().view(-1));
    }
    return;
  }
  const auto shards = trainable.sharding->reference.lock();
  for (const auto& unit : shards->units()) {
    for (const auto& part : unit->parts) {
      for (const FlatLayout::Slice& slice : part->layout().SlicesOf(part->rank())) {
        const FlatLayout::Item& item = part->layout().items()[slice.item];
        fill(item.name, item.shape, slice.begin, part->SliceOf(slice.item, part->shard()));
      }
    }
  }
  shards->ShardsChanged();
}

void RestoreTensors(const std::string& checkpoint, const TrainableModel& trainable,
                    Optimizer& optimizer, int rank) {
  RestoreParameters(checkpoint, trainable);
  const std::unique_ptr<const SavedTensors> states =
      InShards(checkpoint)
          ? OpenShards(checkpoint).states
          : OpenSavedTensors((fs::path(checkpoint) / kOptimizerFile).string());
  optimizer.LoadStateDict(trainable.sharding ? trainable.sharding->assembly.PartsOf(*states)
                                             : WholeOf(*states));

  const auto random = SafetensorsFile::Open((fs::path(checkpoint) / kRandomStateFile).string());
  RestoreRandomState(*random, trainable.model->device(), rank);
}

}  // namespace liger::trainer
