// What a TrainJob is asked while it trains: to save a checkpoint, to pause, to stop.
#include <ATen/ATen.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/checkpoints.h"
#include "worker/trainer/loop/train_job.h"

namespace liger::trainer {

bool TrainJob::OwnPauseAsked() const {
  return checkpoint_requests_.pause_requested() || StopFlag::Terminated();
}

std::vector<std::string> TrainJob::AllCommands(const std::vector<std::string>& own) {
  if (strategy_->alone()) return own;
  // A command comes to every rank, to some of them perhaps a step later.
  std::vector<std::string> all;
  for (const std::string& ids : strategy_->Gather(absl::StrJoin(own, "\n"), "the commands")) {
    for (const absl::string_view id : absl::StrSplit(ids, '\n', absl::SkipEmpty())) {
      if (answered_.emplace(id).second) all.emplace_back(id);
    }
  }
  return all;
}

TrainJob::Asked TrainJob::TakeRequests() {
  const std::vector<std::string> own = checkpoint_requests_.Take();
  Asked asked{.pause = OwnPauseAsked()};
  if (strategy_->alone()) {
    asked.checkpoints = own;
    return asked;
  }
  // With the time that each rank worked in this step, at its own place.
  const RankInfo& rank = strategy_->rank();
  std::vector<double> sums = {double(stop_.requested()), double(own.size()), double(asked.pause)};
  const size_t counts = sums.size();
  sums.resize(counts + static_cast<size_t>(rank.world_size));
  sums[counts + static_cast<size_t>(rank.rank)] = own_seconds_;
  strategy_->SumAcrossRanks(at::from_blob(sums.data(), std::ssize(sums), at::kDouble),
                            "the requests to stop, save or pause");
  if (sums[0] > 0) {
    stop_.Check();
    throw StopRequested("another rank was asked to stop");
  }
  LookForStragglers({sums.begin() + static_cast<std::ptrdiff_t>(counts), sums.end()});
  if (sums[1] > 0) asked.checkpoints = AllCommands(own);
  asked.pause = sums[2] > 0;
  return asked;
}

void TrainJob::LookForStragglers(const std::vector<double>& own_seconds) {
  for (const Stragglers::Found& found : stragglers_.Add(own_seconds)) {
    reporter_.Warn("Straggler", "", found.Message());
  }
}

bool TrainJob::PausesBeforeItBegins() {
  bool asked = OwnPauseAsked();
  if (!strategy_->alone()) {
    const at::Tensor count = at::tensor({int64_t{asked}}, at::kLong);
    strategy_->SumAcrossRanks(count, "the requests to pause");
    asked = count.item<int64_t>() > 0;
  }
  if (!asked) return false;
  // The checkpoint that it went on from says all.
  AnswerPauses("ok");
  return true;
}

bool TrainJob::ActOnRequests(int64_t step) {
  const Asked asked = TakeRequests();
  const bool over = step == max_steps_ || best_.should_stop();
  const bool pauses = asked.pause && !over;
  if (asked.checkpoints.empty() && !pauses) return false;
  if (checkpointed_step_ != step) {
    RequireFiniteParameters(step);
    SaveCheckpoint(step, /*best=*/false);
  }
  const std::string status = FinishCheckpoint();
  for (const std::string& id : asked.checkpoints) reporter_.CommandDone(id, status);
  if (!pauses) return false;
  AnswerPauses(status);
  if (status == "ok") return true;
  reporter_.Warn(kNotPausedCode, "",
                 absl::StrCat("the job is not paused and goes on: ", status));
  // A process that is to end, ends.
  StopFlag::TakeSigtermAsPause(false);
  return false;
}

void TrainJob::AnswerPauses(const std::string& status) {
  for (const std::string& id : checkpoint_requests_.TakePauses()) {
    reporter_.CommandDone(id, status);
  }
}

}  // namespace liger::trainer
