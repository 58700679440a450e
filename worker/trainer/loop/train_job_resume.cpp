// How a TrainJob goes on from a checkpoint.
#include <ATen/ATen.h>

#include <filesystem>
#include <iostream>

#include "common/spec/saved_model.h"
#include "worker/trainer/loop/job_length.h"
#include "worker/trainer/loop/train_job.h"

namespace liger::trainer {

namespace tv1 = liger::trainer::v1;

void TrainJob::Resume(const ResumePoint& from) {
  const RunState& state = from.state;
  const std::string& model_dir = paths_.model_dir;
  const auto& text_files = model_identity_.text_files;
  state.RequireSameShapes(model_identity_.shapes, from.dir);
  state.RequireSameSettings(model_identity_.settings, model_dir, from.dir);
  state.RequireSameWeights(model_identity_.weights, from.dir);
  state.RequireSameData(dataset_.train_stats, from.dir,
                        state.ChangedTextFile(text_files, model_dir));
  state.RequireNotPast(max_steps_, LengthField(training()), from.dir);
  RestoreTensors(from.dir, trainable_, *optimizer_, strategy_->rank().rank);
  if (CausalLM* moving = objective_->MovingReference()) {
    RestoreReference(from.dir, trainable_, *moving);
  }
  batches_->Seek(state.position);
  progress_.Restore(state.progress, trainable_.model->device());
  checkpoints_->Adopt(state.checkpoints);
  eval_losses_ = state.eval_losses;
  last_evaluated_step_ = state.last_evaluated_step;
  last_loss_ = state.last_loss;
  first_step_ = state.step + 1;
  if (strategy_->leads()) {
    std::cout << ResumedText(from.Told()) << std::endl;
    if (const auto warning = ChangedTokenizer(from, text_files, model_dir)) {
      reporter_.Warn(*warning);
    }
  }
  reporter_.Advance(state.step);
  RestoreBest(from);
}

void TrainJob::RestoreBest(const ResumePoint& from) {
  const RunState& state = from.state;
  if (const auto warning = IncomparableBest(best_, from)) {
    if (strategy_->leads()) reporter_.Warn(*warning);
    return;
  }
  best_.Restore(state.best);
  if (!best_.load_best() || !state.best.metric) return;
  // Beside the checkpoint, under its own step.
  best_dir_ = (std::filesystem::path(from.dir).parent_path() / CheckpointName(state.best.step));
  if (best_dir_ == from.dir) return;
  std::vector<liger::v1::Warning> warnings;
  if (IsBestModelWhole(best_dir_, state.job_uid, *strategy_, &warnings)) return;
  for (liger::v1::Warning& warning : warnings) {
    warning.set_field("training.load_best_model_at_end");
    warning.mutable_message()->append("; the best model is looked for anew");
    if (strategy_->leads()) reporter_.Warn(warning);
  }
  best_.Forget();
  best_dir_.clear();
}

}  // namespace liger::trainer
