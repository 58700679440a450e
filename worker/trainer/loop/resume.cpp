#include "worker/trainer/loop/resume.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <filesystem>

#include "worker/trainer/checkpoint/adapter_folder.h"
#include "worker/trainer/checkpoint/safetensors.h"
#include "worker/trainer/checkpoint/saved_tensors.h"
#include "worker/trainer/checkpoint/weights.h"
#include "worker/trainer/error.h"
#include "worker/trainer/loop/checkpoint_files.h"
#include "worker/trainer/loop/random_state.h"
#include "worker/trainer/models/weights.h"
#include "worker/trainer/ticks.h"

namespace liger::trainer {
namespace {

namespace fs = std::filesystem;

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

}  // namespace

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
