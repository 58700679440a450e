#include "worker/agent/exit_classifier.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include <algorithm>
#include <string>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace liger::agent {

v1::Failure MakeFailure(v1::FailureClass failure_class, std::string message, std::string action) {
  v1::Failure failure;
  failure.set_class_(failure_class);
  failure.set_message(std::move(message));
  failure.set_action(std::move(action));
  return failure;
}

std::string DescribeHang(const RankOutcome& rank) {
  const bool silent = rank.silent_for != absl::ZeroDuration();
  const absl::Duration length =
      absl::Floor(silent ? rank.silent_for : rank.idle_for, absl::Seconds(1));
  std::string text = absl::StrCat(silent ? "gave no sign of life for " : "made no progress for ",
                                  absl::FormatDuration(length));
  if (rank.phase != trainer::v1::PHASE_UNSPECIFIED) {
    absl::StrAppend(&text, " (", absl::StripPrefix(trainer::v1::Phase_Name(rank.phase), "PHASE_"));
    if (rank.step > 0) absl::StrAppend(&text, ", after step ", rank.step);
    if (rank.in_slow_call) absl::StrAppend(&text, ", waiting for a disk");
    absl::StrAppend(&text, ")");
  }
  return text;
}

namespace {

using worker::v1::Exited;

v1::Failure Infra(std::string message) {
  return MakeFailure(v1::FAILURE_CLASS_INFRA, std::move(message),
                     "The attempt is run again; if it ends the same way, see the job's log");
}

bool EndedWell(const RankOutcome& rank) { return (rank.done || rank.paused) && !rank.failed; }

// It only tells of what another rank's end led to.
bool Follows(const RankOutcome& rank) {
  return rank.failed && rank.failed->has_first_failed_rank() &&
         rank.failed->first_failed_rank() != rank.rank;
}

// Why a rank that sent neither Done nor Failed is gone.
v1::Failure FromWaitStatus(const RankOutcome& rank) {
  const std::string who = absl::StrCat("the trainer of rank ", rank.rank);
  if (!rank.wait_status) return Infra(absl::StrCat(who, " ended together with its worker agent"));
  const int status = *rank.wait_status;
  if (rank.hung()) {
    v1::Failure failure = MakeFailure(
        v1::FAILURE_CLASS_HANG, absl::StrCat(who, " ", DescribeHang(rank), " and was killed"),
        "The attempt is run again; if it hangs again, see the job's log and look at the worker's "
        "devices and storage (or, where single operations take so long, raise liger-worker "
        "--stall-timeout or --io-timeout)");
    failure.set_step(rank.step);
    return failure;
  }
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && rank.out_of_memory) {
    return MakeFailure(
        v1::FAILURE_CLASS_OOM_HOST,
        absl::StrCat(who, " was killed by the kernel because the host's memory ran out"),
        "");  // the coordinator knows
  }
  if (WIFSIGNALED(status)) {
    return Infra(absl::StrCat(who, " was killed by signal ", WTERMSIG(status), " (",
                              strsignal(WTERMSIG(status)), ")"));
  }
  return Infra(absl::StrCat(who, " ended with exit code ", WEXITSTATUS(status),
                            " and said neither that it is done nor why not"));
}

// The rank to blame: one with a Failed event of its own, then one that hung, then one
// that ended without a word or for want of infrastructure (a lost connection may look
// so), rather than one that says that it lost another, or was killed in consequence; of
// those the one that ended first. What a rank that was told to stop does then is nobody's
// cause, but for a failure that it tells.
const RankOutcome* Culprit(const std::vector<RankOutcome>& ranks) {
  const RankOutcome* culprit = nullptr;
  auto score = [](const RankOutcome& r) {
    int kind = 2;
    if (Follows(r)) {
      kind = 3;
    } else if (r.failed && r.failed->class_() != v1::FAILURE_CLASS_INFRA) {
      kind = 0;
    } else if (r.hung()) {
      kind = 1;
    } else if (!r.failed && (r.told_to_stop || r.killed_by_agent)) {
      kind = 4;
    }
    return std::make_tuple(kind, r.order, r.rank);
  };
  for (const RankOutcome& rank : ranks) {
    if (EndedWell(rank)) continue;
    if (culprit == nullptr || score(rank) < score(*culprit)) culprit = &rank;
  }
  return culprit;
}

void FillRankExits(const std::vector<RankOutcome>& ranks, Exited& exited) {
  for (const RankOutcome& rank : ranks) {
    auto* out = exited.add_local_ranks();
    out->set_rank(rank.rank);
    if (!rank.wait_status) continue;
    if (WIFSIGNALED(*rank.wait_status)) out->set_signal(WTERMSIG(*rank.wait_status));
    if (WIFEXITED(*rank.wait_status)) out->set_exit_code(WEXITSTATUS(*rank.wait_status));
  }
}

}  // namespace

Exited ClassifyExit(const std::vector<RankOutcome>& ranks, const ExitContext& context) {
  Exited exited;
  FillRankExits(ranks, exited);
  exited.set_first_failed_rank(-1);
  if (!context.spawn_error.empty()) {
    *exited.mutable_failure() = Infra(context.spawn_error);
    exited.set_first_failed_rank(ranks.empty() ? 0 : ranks.front().rank);
    return exited;
  }
  const RankOutcome* culprit = Culprit(ranks);
  if (culprit == nullptr) {
    const bool paused = std::any_of(ranks.begin(), ranks.end(),
                                    [](const RankOutcome& rank) { return rank.paused; });
    if (!paused) return exited;
    // It ended early, though well: because the worker stops, or was told to.
    if (!context.worker_error.empty()) {
      *exited.mutable_failure() = Infra(context.worker_error);
      exited.set_worker_stopped(context.worker_stopped);
    } else {
      exited.set_paused(!context.cancelled);
      exited.set_cancelled(context.cancelled);
    }
    return exited;
  }
  if (culprit->failed) {
    *exited.mutable_failure() = *culprit->failed;
  } else if (!context.worker_error.empty()) {
    *exited.mutable_failure() = Infra(context.worker_error);
    exited.set_worker_stopped(context.worker_stopped);
  } else if (context.cancelled) {
    exited.set_cancelled(true);
    return exited;
  } else {
    *exited.mutable_failure() = FromWaitStatus(*culprit);
  }
  const int first = Follows(*culprit) ? culprit->failed->first_failed_rank() : culprit->rank;
  exited.set_first_failed_rank(first);
  exited.mutable_failure()->set_first_failed_rank(first);
  return exited;
}

}  // namespace liger::agent
