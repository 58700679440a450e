// How a TrainJob goes on from a checkpoint, writes them, and keeps its best model.
#include <ATen/ATen.h>

#include <filesystem>

#include "worker/trainer/error.h"
#include "worker/trainer/loop/random_state.h"
#include "worker/trainer/loop/train_job.h"

namespace liger::trainer {

namespace tv1 = liger::trainer::v1;

void TrainJob::Resume(const ResumePoint& from) {
  const RunState& state = from.state;
  state.RequireSameData(dataset_.train_stats, from.dir);
  if (state.step > max_steps_) {
    throw ConfigError("training.max_steps: the checkpoint " + from.dir + " is at step " +
                          std::to_string(state.step) + " already, and the job ends at " +
                          std::to_string(max_steps_),
                      "raise max_steps or num_train_epochs")
        .Field("training.max_steps");
  }
  RestoreTensors(from.dir, trainable_, *optimizer_, strategy_->rank().rank);
  if (CausalLM* moving = objective_->MovingReference()) RestoreReference(from.dir, *moving);
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
  if (std::filesystem::exists(best_dir_)) return;
  reporter_.Warn("NotResumed", "training.load_best_model_at_end",
                 best_dir_ + " is not there; the best model is looked for anew");
  best_.Restore({});
}

void TrainJob::KeepIfBest(int64_t step, const std::map<std::string, double>& values) {
  const bool improved = best_.Update(step, values);
  if (!improved || !best_.load_best()) return;
  RequireFiniteParameters(step);
  reporter_.EnterPhase(tv1::PHASE_SAVING);
  if (trainable_.sharding) {
    KeepParts();
  } else if (strategy_->leads()) {
    checkpoints_->KeepParameters();
    best_dir_ = checkpoints_->kept_parameters_dir();
  }
  // For a run that goes on from a later one.
  if (training().save_steps() > 0) SaveCheckpoint(step, /*best=*/true);
}

RunState TrainJob::State(int64_t step) const {
  RunState state;
  state.step = step;
  state.max_steps = max_steps_;
  state.epoch = batches_->epoch_progress();
  state.position = batches_->position();
  state.SetData(dataset_.train_stats);
  state.progress = progress_.state();
  state.best = best_.state();
  state.eval_losses = eval_losses_;
  state.last_evaluated_step = last_evaluated_step_;
  state.last_loss = last_loss_;
  return state;
}

std::string TrainJob::SaveCheckpoint(int64_t step, bool best) {
  reporter_.EnterPhase(tv1::PHASE_SAVING);
  stop_.Check();
  const auto random = GatherRandomState(trainable_.model->device(), *strategy_);
  std::string status;
  OnLeader([&] { status = WriteCheckpoint(step, best, random); });
  status = strategy_->Gather(status, "the end of the checkpoint").front();
  if (status == "ok") checkpointed_step_ = step;
  return status;
}

std::string TrainJob::WriteCheckpoint(int64_t step, bool best,
                                      const std::vector<NamedTensor>& random) {
  try {
    const tv1::Saved saved = checkpoints_->Save(State(step), best, metrics_log_->path(), random);
    if (reporter_.Saved(saved)) return "ok";
    const std::string why =
        "the checkpoint of step " + std::to_string(step) + " could not be reported";
    reporter_.Warn("CheckpointNotSaved", "training.save_steps", why);
    return why;
  } catch (const TrainerError& error) {
    if (error.failure().class_() != liger::v1::FAILURE_CLASS_STORAGE) throw;
    const std::string why = "no checkpoint of step " + std::to_string(step) + ": " + error.what();
    reporter_.Warn("CheckpointNotSaved", "training.save_steps", why);
    return why;
  }
}

void TrainJob::KeepParts() {
  best_parts_.clear();
  for (const auto& entry : trainable_.parameters->entries()) {
    best_parts_.push_back(entry.storage.detach().to(at::kCPU, /*non_blocking=*/false,
                                                    /*copy=*/true));
  }
}

void TrainJob::TakeParts() {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < best_parts_.size(); ++i) {
    trainable_.parameters->entries()[i].storage.detach().copy_(best_parts_[i]);
  }
  trainable_.parameters->RefreshCompute();
}

void TrainJob::TakeBest() {
  const bool kept = !best_dir_.empty() || !best_parts_.empty();
  if (!best_.load_best() || !kept || best_.state().step == last_step_) return;
  if (best_parts_.empty()) {
    RestoreParameters(best_dir_, trainable_);
  } else {
    TakeParts();
  }
  saved_step_ = best_.state().step;
}

}  // namespace liger::trainer
