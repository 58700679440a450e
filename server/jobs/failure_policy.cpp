#include "server/jobs/failure_policy.h"

#include <algorithm>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/spec/violations.h"

namespace liger::server {
namespace {

using liger::v1::Failure;
using liger::worker::v1::Exited;
using liger::worker::v1::RankExit;

constexpr int kMaxViolationsShown = 10;

const char* DefaultMessage(liger::v1::FailureClass failure_class) {
  switch (failure_class) {
    case liger::v1::FAILURE_CLASS_OOM_DEVICE:
      return "the device ran out of memory";
    case liger::v1::FAILURE_CLASS_OOM_HOST:
      return "the host ran out of memory";
    case liger::v1::FAILURE_CLASS_NAN:
      return "the loss or a gradient is not finite";
    case liger::v1::FAILURE_CLASS_DATA:
      return "the dataset cannot be used";
    case liger::v1::FAILURE_CLASS_CONFIG:
      return "the job's configuration cannot be used";
    case liger::v1::FAILURE_CLASS_HANG:
      return "the trainer made no progress";
    case liger::v1::FAILURE_CLASS_STORAGE:
      return "the result could not be written";
    default:
      return "the trainer ended unexpectedly";
  }
}

std::string DefaultAction(liger::v1::FailureClass failure_class) {
  switch (failure_class) {
    case liger::v1::FAILURE_CLASS_OOM_DEVICE:
    case liger::v1::FAILURE_CLASS_OOM_HOST:
      return "";  // the store knows the job
    case liger::v1::FAILURE_CLASS_NAN:
      return "lower learning_rate, raise warmup, or look for bad rows near the step";
    case liger::v1::FAILURE_CLASS_DATA:
      return "correct the data and submit again";
    case liger::v1::FAILURE_CLASS_CONFIG:
      return "correct the job and submit again";
    case liger::v1::FAILURE_CLASS_STORAGE:
      return "free space on the worker's output disk and submit again";
    default:
      return "see the job's log (liger-cli logs) and submit again";
  }
}

std::string DescribeExit(const RankExit& rank) {
  if (rank.signal() != 0) {
    return absl::StrCat("rank ", rank.rank(), " was killed by signal ", rank.signal());
  }
  return absl::StrCat("rank ", rank.rank(), " exited with code ", rank.exit_code());
}

const RankExit* FirstBadRank(const Exited& exited) {
  const auto& ranks = exited.local_ranks();
  const auto bad = std::find_if(ranks.begin(), ranks.end(), [](const RankExit& rank) {
    return rank.exit_code() != 0 || rank.signal() != 0;
  });
  return bad == ranks.end() ? nullptr : &*bad;
}

// What to add to a failure or violation of that message about a path.
std::string NearMissingPath(const Catalog& catalog, const std::string& field,
                            const std::string& path, const std::string& message) {
  const bool missing = absl::StrContains(message, absl::StrCat("'", path, "' does not exist"));
  return field == "dataset.eval_uri" && missing ? catalog.NearDatasets(path) : "";
}

}  // namespace

bool WorthRetrying(liger::v1::FailureClass failure_class) {
  return failure_class == liger::v1::FAILURE_CLASS_INFRA ||
         failure_class == liger::v1::FAILURE_CLASS_HANG;
}

TaskExit ClassifyExit(const Exited& exited) {
  TaskExit exit;
  exit.failure = exited.failure();
  exit.unpublished = {exited.unpublished().begin(), exited.unpublished().end()};
  if (exited.cancelled()) {
    exit.outcome = AttemptState::kCancelled;
    return exit;
  }
  if (exited.paused() && !exited.has_failure()) {
    exit.outcome = AttemptState::kPaused;
    return exit;
  }
  const bool unclassified = exited.failure().class_() == liger::v1::FAILURE_CLASS_UNSPECIFIED;
  const RankExit* bad = FirstBadRank(exited);
  if (unclassified && bad == nullptr && exited.failure().message().empty()) {
    exit.outcome = AttemptState::kSucceeded;
    return exit;
  }
  Failure& failure = exit.failure;
  if (unclassified) {
    // The trainer said nothing before it went: something outside ended it.
    failure.set_class_(liger::v1::FAILURE_CLASS_INFRA);
    if (failure.message().empty()) failure.set_message(DescribeExit(*bad));
  }
  if (failure.message().empty()) failure.set_message(DefaultMessage(failure.class_()));
  if (failure.action().empty()) failure.set_action(DefaultAction(failure.class_()));
  if (failure.log_tail().empty()) failure.set_log_tail(exited.log_tail());
  if (!failure.has_first_failed_rank()) failure.set_first_failed_rank(exited.first_failed_rank());
  exit.outcome = AttemptState::kFailed;
  exit.retry = WorthRetrying(failure.class_());
  exit.worker_stopped = exit.retry && exited.worker_stopped();
  return exit;
}

Failure CheckFailure(const liger::trainer::v1::CheckResult& result) {
  const liger::v1::Violation& first = result.violations(0);
  const bool data = absl::StartsWith(first.field(), "dataset") || first.row() > 0;
  Failure failure;
  failure.set_class_(data ? liger::v1::FAILURE_CLASS_DATA : liger::v1::FAILURE_CLASS_CONFIG);
  failure.set_field(first.field());
  failure.set_file(first.file());
  failure.set_row(first.row());
  std::string message;
  for (int i = 0; i < result.violations_size() && i < kMaxViolationsShown; ++i) {
    absl::StrAppend(&message, i == 0 ? "" : "\n", FormatViolation(result.violations(i)));
  }
  if (result.violations_size() > kMaxViolationsShown) {
    absl::StrAppend(&message, "\n(and ", result.violations_size() - kMaxViolationsShown, " more)");
  }
  failure.set_message(message);
  failure.set_action(DefaultAction(failure.class_()));
  return failure;
}

void AddNearDatasets(const Catalog& catalog, liger::worker::v1::TaskEvent* event) {
  if (event->has_check_result()) {
    for (liger::v1::Violation& violation : *event->mutable_check_result()->mutable_violations()) {
      violation.mutable_message()->append(
          NearMissingPath(catalog, violation.field(), violation.file(), violation.message()));
    }
  }
  if (!event->has_exited() || !event->exited().has_failure()) return;
  Failure& failure = *event->mutable_exited()->mutable_failure();
  failure.mutable_message()->append(
      NearMissingPath(catalog, failure.field(), failure.file(), failure.message()));
}

}  // namespace liger::server
