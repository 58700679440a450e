#include "worker/trainer/loop/checkpoints.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "worker/trainer/checkpoint/file_writer.h"
#include "worker/trainer/checkpoint/safetensors_writer.h"
#include "worker/trainer/checkpoint/saved_tensors.h"
#include "worker/trainer/loop/checkpoint_files.h"
#include "worker/trainer/loop/output_check.h"
#include "worker/trainer/loop/publish.h"

namespace liger::trainer {
namespace {

namespace fs = std::filesystem;

std::vector<NamedTensor> TrainedParameters(const TrainableModel& trainable) {
  std::vector<NamedTensor> tensors;
  for (const auto& entry : trainable.parameters->entries()) {
    tensors.push_back({entry.name, entry.storage.detach()});
  }
  return tensors;
}

std::vector<NamedTensor> ToTensors(const std::map<std::string, at::Tensor>& state) {
  std::vector<NamedTensor> tensors;
  for (const auto& [name, tensor] : state) tensors.push_back({name, tensor});
  return tensors;
}

std::vector<NamedTensor> OptimizerStates(const TrainableModel& trainable,
                                         const Optimizer& optimizer) {
  return trainable.sharding ? trainable.sharding->assembly.States()
                            : ToTensors(optimizer.StateDict());
}

std::vector<NamedTensor> ReferenceParameters(const TrainableModel& trainable,
                                             const CausalLM& reference) {
  if (trainable.sharding) return trainable.sharding->assembly.ReferenceParameters();
  std::vector<NamedTensor> tensors;
  for (const auto& [name, leaf] : NamedLeaves(reference)) tensors.push_back({name, leaf.detach()});
  return tensors;
}

// Each of which has its part of them.
int64_t RanksOfStates(const TrainableModel& trainable) {
  return trainable.sharding ? trainable.sharding->model.options().shards->getSize() : 1;
}

}  // namespace

std::vector<std::string> CheckpointsIn(const std::string& folder) {
  std::vector<std::pair<int64_t, std::string>> found;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const auto step = CheckpointStep(it->path().filename().string());
    if (step && fs::exists(it->path() / kRunStateFile)) found.emplace_back(*step, it->path());
  }
  std::sort(found.rbegin(), found.rend());
  std::vector<std::string> paths;
  for (auto& [step, path] : found) paths.push_back(std::move(path));
  return paths;
}

std::string CheckpointsFolder(const Request& request) {
  return request.publish_to + kCheckpointsSuffix;
}

Checkpoints::Checkpoints(const Request& request, const TrainableModel& trainable,
                         const Optimizer& optimizer, const PrecisionPlan& precision,
                         std::string model_dir, const CausalLM* moving_reference)
    : request_(request),
      trainable_(trainable),
      optimizer_(optimizer),
      precision_(precision),
      model_dir_(std::move(model_dir)),
      moving_reference_(moving_reference),
      // Where ranks share what is saved, all of them copy their parts.
      copies_(trainable.model->device(),
              trainable.sharding ? RankInfo::FromEnvironment().local_world_size : 1) {}

template <typename Use>
auto Checkpoints::WithFolder(const std::string& dir, const Use& use) const {
  const auto complete = [&](auto save) {
    save.dir = dir;
    // One of an earlier attempt or run; nothing but a saved folder is replaced.
    save.overwrite = true;
    if (moving_reference_ != nullptr) {
      save.tensor_files[kReferenceFile] = ReferenceParameters(trainable_, *moving_reference_);
    }
    return use(save);
  };
  return trainable_.lora ? complete(AdapterToSave(request_, trainable_, model_dir_))
                         : complete(ModelToSave(request_, trainable_, precision_, model_dir_));
}

int64_t Checkpoints::MostAtOnce(int64_t steps) const {
  const auto& training = request_.spec().training();
  if (training.save_steps() == 0) return 0;
  if (!kept_.empty()) return 1;  // the earlier ones take their room already
  const int64_t best = training.load_best_model_at_end() ? 1 : 0;
  const int64_t all = steps / training.save_steps() + best;
  return training.save_total_limit() == 0 ? all
                                          : std::min(all, training.save_total_limit() + 1 + best);
}

int64_t Checkpoints::BytesOfOne() const {
  return WithFolder(FolderOf(0), [](const auto& save) { return BytesToSave(save); }) +
         optimizer_.StateBytes() * RanksOfStates(trainable_);
}

void Checkpoints::RequireRoom(int64_t steps) const {
  const OutputSize model = SizeOfOutput(request_, trainable_, precision_, model_dir_);
  const int64_t best_bytes = request_.spec().training().load_best_model_at_end() ? model.bytes : 0;
  const int64_t one = BytesOfOne();
  const int64_t all = MostAtOnce(steps) * one;
  const std::string& output = request_.launch.output_dir();
  // Moved away by the agent one by one.
  const int64_t here = request_.alone() ? all : std::min(all, one);
  RequireFreeBytes(model.dir, model.bytes + best_bytes + here);
  if (!output.empty()) RequireFreeBytes(output, model.bytes + all);
}

std::string Checkpoints::FolderOf(int64_t step) const {
  const fs::path parent = request_.alone()
                              ? fs::path(CheckpointsFolder(request_))
                              : fs::path(request_.launch.attempt_dir()) / "checkpoints";
  return parent / CheckpointName(step);
}

template <typename SaveRequest>
void Checkpoints::AddState(const Content& content, SaveRequest& save) {
  RunState state = content.state;
  std::erase_if(kept_, [&](const CheckpointMark& mark) { return mark.step >= state.step; });
  state.checkpoints = kept_;
  state.checkpoints.push_back({state.step, content.best});
  save.tensor_files[kRandomStateFile] = content.random;
  save.extra_files[kRunStateFile] = state.ToJson();
  save.extra_files[kSpecFile] = SpecJson(request_.spec());
  save.copy_files["metrics.jsonl"] = content.metrics_path;
  save.copy_bytes["metrics.jsonl"] = static_cast<int64_t>(fs::file_size(content.metrics_path));
}

Checkpoints::Draft Checkpoints::Begin(const Content& content) {
  const int64_t step = content.state.step;
  std::vector<NamedTensor> trained;
  if (content.parameters) trained = TrainedParameters(trainable_);
  return WithFolder(FolderOf(step), [&](auto save) {
    Draft draft;
    if (content.checkpoint) {
      save.tensor_files[kOptimizerFile] = OptimizerStates(trainable_, optimizer_);
    } else {
      save.tensors.clear();
      save.tensor_files.clear();
    }
    draft.why_not = "not all ranks see the disk that rank 0 writes to";
    const auto tensors = Changing(save, trained);
    draft.copied = tensors && copies_.Take(*tensors, &draft.why_not);
    if (content.parameters) {
      draft.keep_parameters = [this, trained] {
        copies_.Await();
        KeepParameters(trained);
      };
    }
    if (!content.checkpoint) return draft;
    AddState(content, save);
    draft.write_checkpoint = [this, save, step, best = content.best] {
      copies_.Await();
      RequireRoomForCheckpoint(request_, BytesToSave(save));
      return Finished(SaveFolder(save), step, best);
    };
    return draft;
  });
}

std::string Checkpoints::OpenFolder(int64_t step) {
  const int64_t bytes = BytesOfOne();
  RequireRoomForCheckpoint(request_, bytes);
  folder_ = std::make_shared<OutputFolder>(FolderOf(step), /*overwrite=*/true, bytes);
  return folder_->staging();
}

namespace {

// What this rank has of it, and what all ranks have.
ShardedTensors ListOf(const std::vector<Assembly::Shard>& shards, std::vector<NamedTensor>& own) {
  ShardedTensors all;
  for (const Assembly::Shard& shard : shards) {
    all[shard.name] = {shard.shape, shard.counts};
    if (shard.own.numel() > 0) own.push_back({shard.name, shard.own.detach()});
  }
  return all;
}

}  // namespace

Checkpoints::Draft Checkpoints::BeginShards(const Content& content, const std::string& folder) {
  Draft draft;
  const Assembly& assembly = trainable_.sharding->assembly;
  if (!assembly.is_saved()) {
    draft.copied = true;  // another copy of the model is
    draft.write_checkpoint = [] { return v1::Saved(); };
    return draft;
  }
  const Assembly::Shards shards = assembly.OwnShards(optimizer_.StateDict());
  std::vector<NamedTensor> own;
  const ShardedTensors parameters = ListOf(shards.parameters, own);
  const ShardedTensors states = ListOf(shards.states, own);
  const ShardedTensors reference = ListOf(shards.reference, own);
  std::vector<at::Tensor*> tensors;
  for (NamedTensor& one : own) tensors.push_back(&one.tensor);
  draft.copied = copies_.Take(tensors, &draft.why_not);
  const int64_t rank = assembly.rank(), ranks = assembly.ranks();
  if (folder_ == nullptr) {
    draft.write_checkpoint = [this, own, folder, name = ShardFile(rank, ranks)] {
      copies_.Await();
      WriteForOther(folder, name, [&](FileWriter& file) { WriteSafetensors(file, own); });
      return v1::Saved();
    };
    return draft;
  }
  return WithFolder(FolderOf(content.state.step), [&](auto save) {
    AddState(content, save);
    save.tensor_files.erase(kReferenceFile);  // in the shards
    draft.write_checkpoint = [this, own, save, ranks, step = content.state.step,
                              best = content.best,
                              list = ShardsJson(ranks, parameters, states, reference),
                              whole = std::exchange(folder_, nullptr)] {
      copies_.Await();
      WriteSafetensors(*whole, ShardFile(0, ranks), own);
      WriteBesideWeights(*whole, save);
      whole->Write(kShardsFile, list);
      for (int64_t other = 1; other < ranks; ++other) {
        whole->Await(ShardFile(other, ranks), given_up_);
      }
      return Finished(whole->Commit(), step, best);
    };
    return draft;
  });
}

template <typename SaveRequest>
std::optional<std::vector<at::Tensor*>> Checkpoints::Changing(SaveRequest& save,
                                                              std::vector<NamedTensor>& trained) {
  std::vector<at::Tensor*> tensors;
  const auto add = [&](std::vector<NamedTensor>& named) {
    for (NamedTensor& one : named) {
      if (one.make) return false;
      tensors.push_back(&one.tensor);
    }
    return true;
  };
  bool all = add(save.tensors) && add(trained);
  for (auto& [name, file] : save.tensor_files) all = all && add(file);
  if (!all) return std::nullopt;
  return tensors;
}

void Checkpoints::Reserve(bool parameters) {
  std::vector<NamedTensor> trained;
  if (trainable_.sharding) {
    const Assembly& assembly = trainable_.sharding->assembly;
    if (!assembly.is_saved()) return;
    const Assembly::Shards shards = assembly.OwnShards(optimizer_.StateDict());
    for (const auto* part : {&shards.parameters, &shards.states, &shards.reference}) {
      ListOf(*part, trained);
    }
    std::vector<at::Tensor*> tensors;
    for (NamedTensor& one : trained) tensors.push_back(&one.tensor);
    copies_.Reserve(tensors);
    return;
  }
  if (parameters) trained = TrainedParameters(trainable_);
  WithFolder(FolderOf(0), [&](auto save) {
    save.tensor_files[kOptimizerFile] = OptimizerStates(trainable_, optimizer_);
    if (const auto tensors = Changing(save, trained)) copies_.Reserve(*tensors);
  });
}

v1::Saved Checkpoints::Finished(const SavedFolder& folder, int64_t step, bool best) {
  kept_.push_back({step, best});
  RemoveOld();
  v1::Saved saved;
  saved.set_publication_id(CheckpointName(step));
  saved.set_kind(best ? kBestCheckpointKind : kCheckpointKind);
  saved.set_step(step);
  saved.set_dir(folder.dir);
  saved.set_manifest_digest(folder.manifest_digest);
  saved.set_bytes(folder.bytes);
  return saved;
}

void Checkpoints::RemoveOld() {
  for (const int64_t step :
       CheckpointsToRemove(kept_, request_.spec().training().save_total_limit())) {
    std::erase_if(kept_, [step](const CheckpointMark& mark) { return mark.step == step; });
  }
  if (!request_.alone()) return;
  // Also what lay there before the run: of one that this one replaces, or of later
  // steps than the one that it went on from.
  for (const std::string& dir : CheckpointsIn(CheckpointsFolder(request_))) {
    const auto step = CheckpointStep(fs::path(dir).filename().string());
    const bool kept = std::any_of(kept_.begin(), kept_.end(),
                                  [&](const CheckpointMark& mark) { return mark.step == step; });
    std::error_code ignored;
    if (!kept) fs::remove_all(dir, ignored);
  }
}

std::string Checkpoints::kept_parameters_dir() const {
  return (fs::path(request_.launch.attempt_dir()) / "best").string();
}

void Checkpoints::KeepParameters(const std::vector<NamedTensor>& tensors) const {
  int64_t bytes = 0;
  for (const NamedTensor& tensor : tensors) bytes += SavedBytes(tensor, std::nullopt);
  OutputFolder folder(kept_parameters_dir(), /*overwrite=*/true, bytes);
  WriteSafetensors(folder, kTrainableFile, tensors);
  folder.Commit();
}

}  // namespace liger::trainer
