// What the ranks of a TrainJob, and its checkpoints, must have in common.
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/file.h"
#include "common/spec/spec.h"
#include "worker/trainer/loop/model_settings.h"
#include "worker/trainer/loop/rank_agreement.h"
#include "worker/trainer/loop/train_job.h"
#include "worker/trainer/models/lora.h"

namespace liger::trainer {
namespace {

// Two builds of one version differ.
std::string OwnProgram() { return Sha256File("/proc/self/exe").value_or("not readable"); }

}  // namespace

void TrainJob::RequireSameRun() const {
  liger::v1::JobSpec spec = request_.spec();
  // Each worker names it by a path of its own; FindResumePoint compares what is there.
  std::string* from = spec.mutable_training()->mutable_resume_from_checkpoint();
  if (!from->empty()) *from = "a checkpoint";
  RequireAgreement(*strategy_, {{"the trainer's version", LIGER_VERSION},
                                {"the trainer's program", OwnProgram()},
                                {"the strategy", strategy_->Describe()},
                                {"the job's spec", liger::SpecHash(spec)}});
}

void TrainJob::RequireSameInputs() const {
  if (strategy_->alone()) return;
  const DataStats& data = dataset_.train_stats;
  std::vector<std::pair<std::string, std::string>> facts = {
      {"the training rows, tokens and targets",
       absl::StrCat(data.rows, ", ", data.tokens, ", ", data.target_tokens)},
      {"the evaluation rows", absl::StrCat(dataset_.eval_stats.rows)},
      {"the first step", absl::StrCat(first_step_)},
      // Of shards nobody has the whole later on.
      {"the checksum of the weights",
       Checksum(trainable_.sharding ? trainable_.loaded : BitSumsOf(*trainable_.model))}};
  for (const auto& [name, value] : model_identity_.settings) {
    facts.emplace_back("the model's config.json, " + name, value);
  }
  RequireAgreement(*strategy_, facts);
}

// A checkpoint has what is trained: the rest, and what a reference keeps of it, must be the same.
RunState::Model TrainJob::Identity() const {
  RunState::Model identity{.shapes = ShapesDigest(*trainable_.model),
                           .settings = SettingsOf(config_),
                           .text_files = TextFilesOf(paths_.model_dir)};
  BitSums kept;
  // A new adapter has no effect yet, and no reference has it.
  const bool new_adapter = trainable_.lora && trainable_.lora->adapter_dir.empty();
  for (const auto& item : trainable_.model->named_parameters()) {
    const std::string& name = item.key();
    const bool referred =
        objective_->NeedsReference() && !(new_adapter && IsAdapterParameter(name));
    if (!item.value().requires_grad() || referred) kept[name] = trainable_.loaded.at(name);
  }
  identity.weights = Checksum(kept);
  return identity;
}

}  // namespace liger::trainer
