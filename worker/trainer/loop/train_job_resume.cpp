// How a TrainJob goes on from a checkpoint.
#include <ATen/ATen.h>

#include <filesystem>

#include "worker/trainer/loop/train_job.h"

namespace liger::trainer {

namespace tv1 = liger::trainer::v1;

void TrainJob::Resume(const ResumePoint& from) {
  const RunState& state = from.state;
  state.RequireSameShapes(model_identity_.shapes, from.dir);
  state.RequireSameWeights(model_identity_.weights, from.dir);
  state.RequireSameData(dataset_.train_stats, from.dir);
  state.RequireNotPast(max_steps_, from.dir);
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
  reporter_.Advance(state.step);
  best_.Restore(state.best);
  if (!best_.load_best() || !state.best.metric) return;
  // Beside the checkpoint, under its own step.
  best_dir_ = (std::filesystem::path(from.dir).parent_path() / CheckpointName(state.best.step));
  std::string is_there = std::filesystem::exists(best_dir_) ? "yes" : "";
  if (!strategy_->alone()) {  // all look for it anew, or none
    is_there = strategy_->Gather(is_there, "the best model's checkpoint").front();
  }
  if (!is_there.empty()) return;
  reporter_.Warn(kNotResumedCode, "training.load_best_model_at_end",
                 best_dir_ + " is not there; the best model is looked for anew");
  best_.Restore({});
}

}  // namespace liger::trainer
