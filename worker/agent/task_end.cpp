// How a task ends: no process left, the exit told, the folder put away.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "worker/agent/exit_classifier.h"
#include "worker/agent/log.h"
#include "worker/agent/task_runner.h"
#include "worker/agent/text_util.h"

namespace liger::agent {
namespace {

// Log bytes of a failing rank that travel with its exit.
constexpr int64_t kLogTailBytes = 64 << 10;
constexpr int kFailureLogLines = 20;
// The exit of a task that the coordinator does not know is offered for so long.
constexpr absl::Duration kDisownedTimeout = absl::Seconds(30);

bool Decides(const ConvertedEvent& converted) {
  return converted.event.has_publish_request() || converted.event.has_check_result();
}

}  // namespace

void TaskRunner::OnAllGone() {
  // Devices are free only when nothing that could use them is left.
  if (!ranks_.ClearStrays()) return;
  services_.check_devices();
  services_.ledger->Release(TaskKey(ref()));
  services_.ports->Release(TaskKey(ref()));
  services_.shipper->Finish(ref());
  state_ = State::kEnded;
}

void TaskRunner::TryExit(absl::Time now) {
  const bool heard_all = std::all_of(ranks_.ranks().begin(), ranks_.ranks().end(),
                                     [](const LocalRank& rank) { return rank.tail.at_end(); });
  if (!heard_all) return;
  if (!spool_failure_.ok()) {
    // Nobody is left to wait for: the end is worth more than what is unsaid.
    result_lost_ = result_lost_ || std::any_of(converted_.begin(), converted_.end(), Decides);
    converted_.clear();
  }
  if (!converted_.empty()) return;
  if (!publications_->AllSettled()) {
    // Asked to stop with a result under way: the coordinator answers, or not.
    if (kill_at_ && now >= *kill_at_) publications_->GiveUp("the task was stopped before");
    return;
  }
  worker::v1::TaskEvent event;
  *event.mutable_exited() = MakeExited();
  exited_ = event.exited();
  if (absl::Status s = spool_->Append(event, ref()); !s.ok()) {
    LogError("task ", TaskKey(ref()), ": its exit is told without being written: ", s.ToString());
    spool_->HoldExit(event, ref());
  }
  state_ = State::kExited;
  LogInfo("task ", TaskKey(ref()), " exited: ",
          exited_->has_failure() ? exited_->failure().message()
          : exited_->cancelled() ? "stopped"
          : exited_->paused()    ? "paused"
                                 : "done");
}

worker::v1::Exited TaskRunner::MakeExited() const {
  ExitContext context;
  context.worker_error = worker_error_;
  context.worker_stopped = vacated_;
  context.cancelled = !spool_->stop_reason().empty() && worker_error_.empty();
  context.spawn_error = spawn_error_;
  worker::v1::Exited exited = ClassifyExit(ranks_.Outcomes(), context);
  for (std::string& id : publications_->Unpublished()) *exited.add_unpublished() = std::move(id);
  if (auto failure = WorkersFailure(exited)) {
    *exited.mutable_failure() = *std::move(failure);
    exited.set_cancelled(false);
    exited.set_worker_stopped(false);
  } else if (context.cancelled && exited.unpublished_size() > 0) {
    exited.set_cancelled(true);
  }
  if (exited.has_failure()) {
    BlameDevice(&exited);
    exited.set_log_tail(ReadTail(folder_.log(LogRank(exited)), kLogTailBytes));
    exited.mutable_failure()->set_log_tail(LastLines(exited.log_tail(), kFailureLogLines));
  }
  return exited;
}

void TaskRunner::BlameDevice(worker::v1::Exited* exited) const {
  v1::Failure& failure = *exited->mutable_failure();
  const bool infra = failure.class_() == v1::FAILURE_CLASS_INFRA ||
                     failure.class_() == v1::FAILURE_CLASS_HANG ||
                     failure.class_() == v1::FAILURE_CLASS_UNSPECIFIED;
  if (!infra || exited->worker_stopped()) return;
  for (const worker::v1::LocalRank& rank : record_.prepare().local_ranks()) {
    const worker::v1::DeviceInfo* device = services_.ledger->Find(rank.device_uuid());
    if (device == nullptr || device->fault().empty()) continue;
    failure.set_class_(v1::FAILURE_CLASS_INFRA);
    failure.set_message(absl::StrCat("device ", device->uuid(), " of rank ", rank.rank(),
                                     " failed: ", device->fault(), " (", failure.message(), ")"));
    failure.set_first_failed_rank(rank.rank());
    exited->set_first_failed_rank(rank.rank());
    return;
  }
}

int TaskRunner::LogRank(const worker::v1::Exited& exited) const {
  for (const LocalRank& rank : ranks_.ranks()) {
    if (rank.outcome.rank == exited.first_failed_rank()) return rank.outcome.rank;
  }
  for (const LocalRank& rank : ranks_.ranks()) {
    if (rank.outcome.failed) return rank.outcome.rank;
  }
  return ranks_.leading_rank();
}

std::optional<v1::Failure> TaskRunner::WorkersFailure(const worker::v1::Exited& exited) const {
  if (launch_failure_) return launch_failure_;
  // What the trainer itself says comes first.
  if (exited.has_failure() && exited.failure().class_() != v1::FAILURE_CLASS_INFRA) {
    return std::nullopt;
  }
  if (const std::string error = publications_->storage_error(); !error.empty()) {
    return MakeFailure(v1::FAILURE_CLASS_STORAGE, error,
                       "Make room at the output, or choose another output.uri");
  }
  if (result_lost_ && !exited.has_failure()) {
    return MakeFailure(v1::FAILURE_CLASS_INFRA,
                       absl::StrCat("the result cannot be reported: ", spool_failure_.message()),
                       "Make room in the worker's --data-dir");
  }
  return std::nullopt;
}

void TaskRunner::TryFinish(absl::Duration connected) {
  offered_ += connected;
  if (spool_->drained()) {
    shipping_ += connected;
    const bool shipped =
        services_.shipper->Drained(ref()) || shipping_ > services_.options->ship_timeout;
    if (!shipped) return;
  } else if (!disowned_ || offered_ <= kDisownedTimeout) {
    return;
  }
  services_.shipper->Remove(ref());
  const bool ended_well =
      !exited_->has_failure() && !exited_->cancelled() && exited_->unpublished().empty();
  if (exited_->has_failure() || (disowned_ && !ended_well)) {
    services_.archive->Keep(folder_);
  } else {
    services_.archive->Remove(folder_);
  }
  finished_ = true;
}

}  // namespace liger::agent
