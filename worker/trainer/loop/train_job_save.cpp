// What a TrainJob saves: checkpoints, which are written while it goes on where they can be, its
// best model, and the output.
#include <ATen/ATen.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "worker/trainer/error.h"
#include "worker/trainer/loop/publish.h"
#include "worker/trainer/loop/random_state.h"
#include "worker/trainer/loop/train_job.h"

namespace liger::trainer {

namespace tv1 = liger::trainer::v1;

void TrainJob::RequireFiniteParameters(int64_t step) const {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> norms;
  for (const auto& entry : trainable_.parameters->entries()) {
    // In fp32, so that values whose squares no norm layer can sum count too.
    norms.push_back(at::linalg_vector_norm(entry.storage, 2, std::nullopt, false, at::kFloat));
  }
  if (norms.empty()) return;
  const at::Tensor on_host = at::stack(norms).cpu();  // the one time that the host waits
  for (int64_t i = 0; i < on_host.numel(); ++i) {
    const double norm = on_host[i].item<double>();
    if (std::isfinite(norm)) continue;
    throw NotFinite("the norm of " + trainable_.parameters->entries()[i].name, norm, step);
  }
}

RunState TrainJob::State(int64_t step) const {
  RunState state;
  state.job_uid = request_.launch.ref().job_uid();
  state.step = step;
  state.max_steps = max_steps_;
  state.epoch = batches_->epoch_progress();
  state.position = batches_->position();
  state.SetData(dataset_.train_stats);
  state.model = model_identity_;
  state.progress = progress_.state();
  state.best = best_.state();
  state.eval_losses = eval_losses_;
  state.last_evaluated_step = last_evaluated_step_;
  state.last_loss = last_loss_;
  return state;
}

void TrainJob::KeepIfBest(int64_t step, const std::map<std::string, double>& values) {
  const bool improved = best_.Update(step, values);
  if (!improved || !best_.load_best()) return;
  const HoldsUpSteps held(save_stall_);
  RequireFiniteParameters(step);
  reporter_.EnterPhase(tv1::PHASE_SAVING);
  if (trainable_.sharding) {
    KeepParts();
  } else if (strategy_->leads()) {
    best_dir_ = checkpoints_->kept_parameters_dir();
  }
  // The checkpoint is for a run that goes on from a later one.
  if (training().save_steps() > 0) {
    SaveCheckpoint(step, /*best=*/true);
  } else if (strategy_->leads() && !trainable_.sharding) {
    BeginToWrite({.parameters = true});
  }
}

void TrainJob::SaveCheckpoint(int64_t step, bool best) {
  const HoldsUpSteps held(save_stall_);
  reporter_.EnterPhase(tv1::PHASE_SAVING);
  stop_.Check();
  AwaitWriting();
  Checkpoints::Content content{
      .checkpoint = true,
      .state = strategy_->leads() ? State(step) : RunState{.step = step},
      .best = best,
      .metrics_path = metrics_log_ ? metrics_log_->path() : "",
      .random = GatherRandomState(trainable_.model->device(), *strategy_),
      .parameters = best && !trainable_.sharding,
  };
  checkpointed_step_ = step;
  if (trainable_.sharding && SavesShards(content)) return;
  OnLeader([&] { BeginToWrite(content); });
}

bool TrainJob::LeavesOut(int64_t step) {
  RequireWriterIsWell();
  const std::optional<absl::Duration> wait = save_pace_.TooLongAt(absl::Now());
  double longest = wait ? absl::ToDoubleSeconds(*wait) : 0;
  strategy_->MaxAcrossRanks(at::from_blob(&longest, {1}, at::kDouble),
                            "whether the checkpoint before is written");
  if (longest == 0) return false;
  const std::string why =
      absl::StrCat("no checkpoint of step ", step,
                   ": the one before is still being written, and waiting for it would hold up "
                   "training for about ",
                   std::round(longest), " s; raise training.save_steps, or write to a faster disk");
  if (std::exchange(told_of_left_out_, true)) {  // one warning is enough
    if (strategy_->leads()) std::cout << why << std::endl;
  } else {
    reporter_.Warn("CheckpointLeftOut", "training.save_steps", why);
  }
  return true;
}

bool TrainJob::SavesShards(const Checkpoints::Content& content) {
  std::string folder;
  if (strategy_->leads()) {
    written_ = StatusOf(content.state.step,
                        [&] { folder = checkpoints_->OpenFolder(content.state.step); });
  }
  folder = strategy_->Gather(folder, "the checkpoint's folder").front();
  if (folder.empty()) return true;
  std::error_code error;
  const at::Tensor blind =
      at::tensor({int64_t{!std::filesystem::exists(folder, error)}}, at::kLong);
  strategy_->SumAcrossRanks(blind, "the ranks that do not see the checkpoint's folder");
  if (blind.item<int64_t>() > 0) {
    checkpoints_->CloseFolder();
    return false;
  }
  WriteDraft(checkpoints_->BeginShards(content, folder), content.state.step);
  return true;
}

void TrainJob::BeginToWrite(const Checkpoints::Content& content) {
  AwaitWriting();
  WriteDraft(checkpoints_->Begin(content), content.state.step);
}

void TrainJob::WriteDraft(Checkpoints::Draft draft, int64_t step) {
  if (draft.copied) {
    const absl::Time begin = absl::Now();
    save_pace_.Begin(begin);
    writing_ = std::async(std::launch::async, [this, draft = std::move(draft), step, begin] {
      Written written{.status = Write(draft, step)};
      written.took = absl::Now() - begin;
      return written;
    });
    return;
  }
  if (!std::exchange(told_why_not_beside_, true)) {
    std::cout << "checkpoints are written while training waits: " << draft.why_not << std::endl;
  }
  written_ = Write(draft, step);
}

std::string TrainJob::Write(const Checkpoints::Draft& draft, int64_t step) {
  // Whose failure is the job's: without it the job would end with another model than the best.
  if (draft.keep_parameters) draft.keep_parameters();
  if (!draft.write_checkpoint) return "ok";
  return StatusOf(step, [&] {
    const tv1::Saved saved = draft.write_checkpoint();
    if (!strategy_->leads() || reporter_.Saved(saved)) return;
    throw TrainerError(liger::v1::FAILURE_CLASS_STORAGE, "it could not be reported");
  });
}

std::string TrainJob::StatusOf(int64_t step, const std::function<void()>& save) {
  try {
    save();
    return "ok";
  } catch (const TrainerError& error) {
    // CONFIG: something stands in its place, or a file of the model that it copies has gone.
    const auto of = error.failure().class_();
    const bool of_files =
        of == liger::v1::FAILURE_CLASS_STORAGE || of == liger::v1::FAILURE_CLASS_CONFIG;
    if (!of_files) throw;
    return NotSaved(step, error);
  } catch (const std::filesystem::filesystem_error& error) {
    return NotSaved(step, error);
  }
}

std::string TrainJob::NotSaved(int64_t step, const std::exception& error) {
  const std::string why = absl::StrCat("no checkpoint of step ", step, ": ", error.what());
  reporter_.Warn("CheckpointNotSaved", "training.save_steps", why);
  return why;
}

void TrainJob::AwaitWriting() {
  if (!writing_.valid()) return;
  const Written written = writing_.get();
  written_ = written.status;
  save_pace_.End(written.took);
}

void TrainJob::RequireWriterIsWell() {
  using std::chrono::seconds;
  if (writing_.valid() && writing_.wait_for(seconds(0)) == std::future_status::ready) {
    AwaitWriting();
  }
}

std::string TrainJob::FinishCheckpoint() {
  const HoldsUpSteps held(save_stall_);
  AwaitWriting();
  return strategy_->Gather(written_, "the end of the checkpoint").front();
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
  saved_step_ = best_.state().step;
  if (!best_parts_.empty()) {
    TakeParts();
  } else if (trainable_.sharding || strategy_->leads()) {
    // Without shards the others have nothing to do any more, and theirs may be a folder of the run
    // before, which is gone.
    RestoreParameters(best_dir_, trainable_);
  }
}

std::vector<std::pair<std::string, double>> TrainJob::Results() const {
  std::vector<std::pair<std::string, double>> results;
  if (trainable_.lora) {
    results.emplace_back("trained parameters", double(trainable_.parameters->numel()));
  }
  if (eval_losses_.size() > 1) results.emplace_back("eval_loss before", eval_losses_.front());
  const bool of_last = saved_step_ == last_step_;
  if (!eval_losses_.empty()) {
    results.emplace_back(of_last ? "eval_loss after" : "eval_loss after the last step, not saved",
                         eval_losses_.back());
  }
  if (best_.state().metric) {
    results.emplace_back(
        "best " + best_.metric() + ", of step " + std::to_string(best_.state().step),
        *best_.state().metric);
  }
  results.emplace_back("loss of the last logged step", last_loss_);
  results.emplace_back("tokens per second", progress_.mean_tokens_per_second());
  for (const auto& [kind, bytes] : device_->PeakMemoryBytes()) {
    results.emplace_back("peak memory (" + kind + "), GB", double(bytes) / 1e9);
  }
  return results;
}

void TrainJob::OnLeader(const std::function<void()>& write) {
  if (trainable_.sharding) {
    trainable_.sharding->assembly.Run(optimizer_->StateDict(), write);
  } else if (strategy_->leads()) {
    write();
  }
}

void TrainJob::Save() {
  OnLeader([this] { WriteOutput(); });
}

void TrainJob::WriteOutput() {
  reporter_.EnterPhase(tv1::PHASE_SAVING);
  stop_.Check();
  const std::map<std::string, double> summary = {
      {"train_runtime", progress_.train_seconds()},
      {"train_tokens_per_second", progress_.mean_tokens_per_second()}};
  Record(last_step_, summary);
  tv1::Saved saved =
      SaveOutput(request_, trainable_, precision_,
                 {paths_.model_dir, metrics_log_->path(), saved_step_, Results()});
  if (best_.should_stop() || best_.state().metric) {
    *saved.mutable_best() = best_.Told(last_step_, max_steps_);
  }
  reporter_.Memory(device_->PeakMemoryBytes());
  if (!reporter_.Saved(saved)) {
    throw TrainerError(liger::v1::FAILURE_CLASS_STORAGE, "the Saved event could not be written",
                       "free space where the attempt's folder is");
  }
}

}  // namespace liger::trainer
