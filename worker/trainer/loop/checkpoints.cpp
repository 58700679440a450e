#include "worker/trainer/loop/checkpoints.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "worker/trainer/checkpoint/file_writer.h"
#include "worker/trainer/checkpoint/safetensors_writer.h"
#include "worker/trainer/loop/checkpoint_files.h"
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
      moving_reference_(moving_reference) {}

template <typename Use>
auto Checkpoints::WithFolder(const std::string& dir, const Use& use) const {
  const auto complete = [&](auto save) {
    save.dir = dir;
    // One of an earlier attempt or run; nothing but a saved folder is replaced.
    save.overwrite = true;
    if (moving_reference_ != nullptr) {
      for (const auto& [name, tensor] : NamedLeaves(*moving_reference_)) {
        save.tensor_files[kReferenceFile].push_back({name, tensor.detach()});
      }
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

void Checkpoints::RequireRoom(int64_t steps) const {
  const OutputSize model = SizeOfOutput(request_, trainable_, precision_, model_dir_);
  const int64_t best_bytes = request_.spec().training().load_best_model_at_end() ? model.bytes : 0;
  const int64_t one = WithFolder(model.dir, [](const auto& save) { return BytesToSave(save); }) +
                      optimizer_.StateBytes() * RanksOfStates(trainable_);
  const int64_t all = MostAtOnce(steps) * one;
  const std::string& output = request_.launch.output_dir();
  // Moved away by the agent one by one.
  const int64_t here = request_.alone() ? all : std::min(all, one);
  RequireFreeBytes(model.dir, model.bytes + best_bytes + here);
  if (!output.empty()) RequireFreeBytes(output, model.bytes + all);
}

v1::Saved Checkpoints::Save(RunState state, bool best, const std::string& metrics_path,
                            const std::vector<NamedTensor>& random) {
  const std::string name = CheckpointName(state.step);
  const fs::path parent = request_.alone()
                              ? fs::path(CheckpointsFolder(request_))
                              : fs::path(request_.launch.attempt_dir()) / "checkpoints";
  std::erase_if(kept_, [&](const CheckpointMark& mark) { return mark.step >= state.step; });
  std::vector<CheckpointMark> kept = kept_;
  kept.push_back({state.step, best});
  state.checkpoints = kept;

  const SavedFolder folder = WithFolder(parent / name, [&](auto save) {
    save.tensor_files[kOptimizerFile] = OptimizerStates(trainable_, optimizer_);
    save.tensor_files[kRandomStateFile] = random;
    save.extra_files[kRunStateFile] = state.ToJson();
    save.extra_files[kSpecFile] = SpecJson(request_.spec());
    save.copy_files["metrics.jsonl"] = metrics_path;
    return SaveFolder(save);
  });
  kept_ = std::move(kept);
  RemoveOld();

  v1::Saved saved;
  saved.set_publication_id(name);
  saved.set_kind(best ? kBestCheckpointKind : kCheckpointKind);
  saved.set_step(state.step);
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

void Checkpoints::KeepParameters() const {
  const std::vector<NamedTensor> tensors = TrainedParameters(trainable_);
  int64_t bytes = 0;
  for (const NamedTensor& tensor : tensors) bytes += SavedBytes(tensor, std::nullopt);
  OutputFolder folder(kept_parameters_dir(), /*overwrite=*/true, bytes);
  WriteSafetensors(folder, kTrainableFile, tensors);
  folder.Commit();
}

}  // namespace liger::trainer
