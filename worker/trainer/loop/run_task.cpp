#include "worker/trainer/loop/run_task.h"

#include <unistd.h>

#include <filesystem>
#include <iostream>
#include <optional>

#include "absl/cleanup/cleanup.h"
#include "worker/trainer/error.h"
#include "worker/trainer/loop/check.h"
#include "worker/trainer/loop/exit_code.h"
#include "worker/trainer/loop/failure.h"
#include "worker/trainer/loop/strategy_choice.h"
#include "worker/trainer/loop/train_job.h"
#include "worker/trainer/parallel/exit_deadline.h"
#include "worker/trainer/parallel/gang.h"

namespace liger::trainer {
namespace {

// Before the task's last event.
void AnswerTheRest(CheckpointRequests& checkpoints, Reporter& reporter) {
  for (const std::string& id : checkpoints.Take()) {
    reporter.CommandDone(id, "not saved: the task has no further step");
  }
  for (const std::string& id : checkpoints.TakePauses()) {
    reporter.CommandDone(id, "not paused: the task has no further step");
  }
}

int RunCheck(const Request& request, Reporter& reporter, const StopFlag& stop,
             CheckpointRequests& checkpoints) {
  const liger::trainer::v1::CheckResult result = CheckJob(request, stop);
  AnswerTheRest(checkpoints, reporter);
  const bool stored = reporter.CheckResult(result) && reporter.Done();
  if (!stored) return kExitError;
  return result.violations().empty() ? kExitOk : kExitInvalidInput;
}

// In which a rank that leaves its gang early lets go of its collectives.
constexpr absl::Duration kLetsGo = absl::Seconds(10);

int RunTrain(const Request& request, Reporter& reporter, const StopFlag& stop,
             CheckpointRequests& checkpoints) {
  const absl::Cleanup remove_own_attempt = [&request] {
    std::error_code ignored;
    if (request.alone()) std::filesystem::remove_all(request.launch.attempt_dir(), ignored);
  };
  const auto end_with_gang = [&request, &reporter](const Farewell& verdict) {
    std::error_code ignored;
    if (request.alone()) std::filesystem::remove_all(request.launch.attempt_dir(), ignored);
    if (verdict.kind == Farewell::Kind::kStopped) {
      std::cerr << "stopped: " << verdict.reason << std::endl;
      _exit(kExitStopped);
    }
    reporter.Failed(verdict.failure);
    _exit(ExitCodeFor(verdict.failure));
  };
  const RankInfo rank = RankInfo::FromEnvironment();
  std::string why;
  liger::v1::JobSpec spec = request.spec();
  spec.mutable_parallel()->set_strategy(ChooseStrategy(request, rank, &why));
  const std::optional<PlannedMemory> memory = RequireFits(request, rank, spec);
  if (memory && memory->plan.peak) reporter.Predict("allocated", *memory->plan.peak);
  auto strategy = MakeStrategy(rank, spec, end_with_gang);
  if (strategy->leads() && !strategy->Describe().empty()) {
    std::cout << (why.empty() ? "" : why + "\n") << strategy->Describe() << std::endl;
  }
  if (memory) {
    if (const auto tight = PeakWarning(memory->plan, spec, memory->there)) reporter.Warn(*tight);
    if (const auto tight = HostWarning(memory->plan, spec, memory->there)) reporter.Warn(*tight);
  }
  const bool alone = strategy->alone();
  std::optional<ExitDeadline> deadline;  // of what the job lets go of
  const auto paused_after = [&] {
    TrainJob job(request, std::move(strategy), reporter, stop, checkpoints);
    try {
      return job.Run();
    } catch (...) {
      const Farewell farewell = FarewellOf(std::current_exception());
      if (!alone) deadline.emplace(kLetsGo, [=] { end_with_gang(farewell); });
      throw;
    }
  }();
  AnswerTheRest(checkpoints, reporter);
  if (paused_after) return reporter.Paused(*paused_after) ? kExitPaused : kExitError;
  return reporter.Done() ? kExitOk : kExitError;
}

int RunKind(const Request& request, Reporter& reporter, const StopFlag& stop,
            CheckpointRequests& checkpoints) {
  switch (request.launch.task_kind()) {
    case liger::trainer::v1::TASK_KIND_TRAIN:
      return RunTrain(request, reporter, stop, checkpoints);
    case liger::trainer::v1::TASK_KIND_CHECK:
      return RunCheck(request, reporter, stop, checkpoints);
    default:
      throw ConfigError("task_kind: neither TRAIN nor CHECK",
                        "run the agent and the trainer of one release");
  }
}

int RunAndReport(const Request& request, Reporter& reporter, const StopFlag& stop,
                 CheckpointRequests& checkpoints) {
  try {
    return RunKind(request, reporter, stop, checkpoints);
  } catch (const StopRequested& stopped) {
    std::cerr << "stopped: " << stopped.what() << std::endl;
    return kExitStopped;
  } catch (...) {
    const liger::v1::Failure failure = FailureFromException(
        std::current_exception(),
        {&request.spec(), reporter.phase() == liger::trainer::v1::PHASE_EVALUATING});
    reporter.Failed(failure);
    return ExitCodeFor(failure);
  }
}

}  // namespace

int RunTask(const Request& request, Reporter& reporter, const StopFlag& stop,
            CheckpointRequests* asked) {
  CheckpointRequests none;
  const int code = RunAndReport(request, reporter, stop, asked == nullptr ? none : *asked);
  if (!Gang::LeftCommunicators()) return code;
  std::cout.flush();
  _exit(code);
}

}  // namespace liger::trainer
