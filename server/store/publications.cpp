#include "server/store/publications.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/checkpoints.h"
#include "common/spec/saved_model.h"
#include "server/store/attempts.h"
#include "server/store/outputs.h"

namespace liger::server {
namespace {

constexpr char kModelKind[] = "model";

// Of NotPublished, between what was lost and what to do: as long as no newer one is there.
constexpr char kAtRisk[] = "; the job goes on, but if its worker is lost it begins again ";
constexpr char kAtStepZero[] = "at step 0";

// The output as a file:// URI; relative ones lie below the worker's root.
std::string OutputUri(const ReadView& view, const JobRow& job, const std::string& worker_id) {
  std::string path(absl::StripPrefix(job.resolved_spec.output().uri(), "file://"));
  if (path.empty()) path = job.name;
  const std::optional<WorkerRow> worker = view.Worker(worker_id);
  if (!absl::StartsWith(path, "/") && worker.has_value()) {
    path = absl::StrCat(absl::StripSuffix(worker->hello.output_root(), "/"), "/", path);
  }
  return absl::StrCat("file://", path);
}

bool TellsPublications(const ReadView& view, const std::string& worker_id) {
  const std::optional<WorkerRow> worker = view.Worker(worker_id);
  return worker.has_value() && worker->hello.tells_publications();
}

std::optional<ArtifactRow> Find(const ReadView& view, const JobRow& job, int64_t epoch,
                                const std::string& worker_id, const std::string& publication_id) {
  for (ArtifactRow& artifact : view.Artifacts(job.tenant, job.uid)) {
    const bool same = artifact.epoch == epoch && artifact.worker_id == worker_id &&
                      artifact.publication_id == publication_id;
    if (same) return std::move(artifact);
  }
  return std::nullopt;
}

PublishAnswer Grant(const ReadView& view, const JobRow& job, const ArtifactRow& artifact) {
  PublishAnswer answer{.worker_id = artifact.worker_id, .ref = TrainRef(job.uid, artifact.epoch)};
  answer.publication_id = artifact.publication_id;
  answer.granted = true;
  answer.output_uri = artifact.uri;
  if (artifact.kind != kModelKind) return answer;
  for (const ArtifactRow& other : view.Artifacts(job.tenant, job.uid)) {
    const bool earlier = other.uri == artifact.uri && other.epoch < artifact.epoch;
    if (earlier && !other.visible) answer.replaces.push_back(other.digest);
  }
  return answer;
}

// Of earlier attempts, at the place where this one lies now.
void DropReplaced(const ArtifactRow& artifact, const JobRow& job, Transaction& txn) {
  for (const ArtifactRow& other : txn.tables().Artifacts(job.tenant, job.uid)) {
    if (other.uri == artifact.uri && other.id != artifact.id && other.epoch <= artifact.epoch) {
      txn.tables().DropArtifact(other.id);
    }
  }
}

bool WasReplaced(const ReadView& view, const JobRow& job, const ArtifactRow& artifact) {
  const std::vector<ArtifactRow> all = view.Artifacts(job.tenant, job.uid);
  return std::any_of(all.begin(), all.end(), [&](const ArtifactRow& other) {
    return other.uri == artifact.uri && other.epoch > artifact.epoch && other.visible;
  });
}

// Something newer is there: of what was lost before the job's warnings say no more than that.
void ShortenLosses(liger::v1::JobStatus* status) {
  for (liger::v1::Warning& warning : *status->mutable_warnings()) {
    if (warning.code() != kNotPublishedCode) continue;
    warning.set_message(warning.message().substr(0, warning.message().find(kAtRisk)));
  }
}

// `artifact` counts from now on.
void Appear(ArtifactRow artifact, JobRow* job, Transaction& txn) {
  artifact.visible = true;
  DropReplaced(artifact, *job, txn);
  txn.tables().PutArtifact(artifact);
  ShortenLosses(&job->status);
  if (artifact.kind == kModelKind) {
    job->status.set_output_uri(artifact.uri);
    job->status.set_saved_step(artifact.step);
    if (!artifact.best.metric().empty()) *job->status.mutable_best() = artifact.best;
  }
  txn.AddEvent(job, "Published",
               {artifact.kind,
                absl::StrCat(artifact.uri, " (", artifact.digest,
                             "): ", SavedModelText(artifact.step, artifact.best)),
                ""});
}

// Its worker says that it is there.
void Arrive(const ArtifactRow& artifact, bool current, JobRow* job, Transaction& txn,
            std::vector<ReclaimRow>* reclaims) {
  const bool model = artifact.kind == kModelKind;
  if (!artifact.visible) {
    // The job runs again; the model of that attempt takes the place of this one.
    if (model && !current) return;
    if (WasReplaced(txn.tables(), *job, artifact)) {
      return txn.tables().DropArtifact(artifact.id);
    }
    Appear(artifact, job, txn);
    RetireCheckpoints(txn.tables(), *job, artifact, /*is_there=*/true, reclaims);
  }
  if (model) TakeOutput(txn.tables(), *job, artifact);
}

void Withdraw(const ArtifactRow& artifact, JobRow* job, Transaction& txn) {
  txn.tables().DropArtifact(artifact.id);
  if (!artifact.visible) return;  // nobody was told that it is there
  if (artifact.kind == kModelKind) {
    job->status.clear_output_uri();
    job->status.clear_saved_step();
    job->status.clear_best();
  }
  if (IsTerminal(job->state)) {
    job->status.set_message(absl::StrCat("published, but its worker, lost meanwhile, could not ",
                                         "make the model visible at ", artifact.uri));
    job->status.set_action("submit the job again");
  }
  txn.AddEvent(job, "Withdrawn", {artifact.kind, absl::StrCat(artifact.uri, " is not there"), ""});
}

// "No space left on device": what repeated failures have in common.
std::string CauseOfError(const std::string& error) {
  const size_t colon = error.rfind(": ");
  return colon == std::string::npos || colon + 2 == error.size() ? error : error.substr(colon + 2);
}

std::string Remedy(const std::string& error, const std::string& worker_id) {
  if (absl::StrContains(error, "the saved result is damaged")) {
    return absl::StrCat("check the disk of worker ", worker_id, " that attempts write to");
  }
  const bool full = absl::StrContains(error, "No space left") || absl::StrContains(error, "quota");
  return full ? absl::StrCat("make room at the output of worker ", worker_id)
              : absl::StrCat("see that worker ", worker_id, " can write there");
}

// One warning for each cause, of the newest checkpoint that it cost; the first is an event.
void WarnOfLoss(const liger::worker::v1::PublicationOutcome& outcome, const std::string& worker_id,
                JobRow* job, Transaction& txn) {
  const std::optional<int64_t> step = CheckpointStep(outcome.publication_id());
  if (!outcome.storage() || !step.has_value()) return;
  const std::string cause = CauseOfError(outcome.error());
  const std::string newest = NewestCheckpoint(txn.tables(), *job);
  const std::string message =
      absl::StrCat("the checkpoint of step ", *step, " could not be published: ", outcome.error(),
                   kAtRisk, newest.empty() ? kAtStepZero : absl::StrCat("from ", newest), ": ",
                   Remedy(outcome.error(), worker_id));
  for (liger::v1::Warning& known : *job->status.mutable_warnings()) {
    if (known.code() != kNotPublishedCode || !absl::StrContains(known.message(), cause)) continue;
    return known.set_message(message);
  }
  liger::v1::Warning& warning = *job->status.add_warnings();
  warning.set_code(kNotPublishedCode);
  warning.set_message(message);
  txn.AddEvent(job, "Warning", {warning.code(), warning.message(), ""});
}

bool IsCheckpoint(const liger::v1::JobEvent& event) {
  return event.type() == "Published" && IsCheckpointKind(event.reason());
}

bool IsLoss(const liger::v1::JobEvent& event) {
  return event.type() == "Warning" && event.reason() == kNotPublishedCode;
}

// Steps were lost with an attempt before this one: it had told of some, or of what it saved.
bool HadBegun(const ReadView& view, const AttemptRow& attempt) {
  for (const AttemptRow& earlier : view.Attempts(attempt.job_uid)) {
    if (earlier.epoch >= attempt.epoch) continue;
    if (view.MetricsThroughStep(earlier.job_uid, earlier.epoch) > 0) return true;
  }
  bool saved = false, saved_before = false;
  for (const liger::v1::JobEvent& event : view.Events(attempt.job_uid, 0, 0)) {
    const bool begins =
        event.type() == "StateChanged" && event.to_state() == liger::v1::JobStatus::STARTING;
    if (begins) saved_before = saved;
    saved = saved || IsLoss(event) || IsCheckpoint(event);
  }
  return saved_before;
}

// The job's newest checkpoint that was found damaged.
std::optional<ArtifactRow> NewestDamaged(const ReadView& view, const JobRow& job) {
  std::optional<ArtifactRow> newest;
  for (ArtifactRow& artifact : view.Artifacts(job.tenant, job.uid)) {
    if (artifact.damage.empty()) continue;
    if (!newest.has_value() || artifact.step > newest->step) newest = std::move(artifact);
  }
  return newest;
}

// Why the job has no checkpoint, and what to do about that.
std::string WhyNoCheckpoint(const ReadView& view, const JobRow& job) {
  std::string lost, not_saved;
  for (const liger::v1::JobEvent& event : view.Events(job.uid, 0, 0)) {
    if (event.type() == "Warning" && event.reason() == kNotSavedCode) not_saved = event.message();
    if (IsCheckpoint(event)) lost.clear();
    if (IsLoss(event) && absl::StrContains(event.message(), absl::StrCat(kAtRisk, kAtStepZero))) {
      lost = event.message();
    }
  }
  if (!lost.empty()) return absl::StrCat("no checkpoint of the job is there, as ", lost);
  if (const std::optional<ArtifactRow> damaged = NewestDamaged(view, job)) {
    return absl::StrCat("no good checkpoint of the job is there, the one of step ", damaged->step,
                        " was found damaged: check the disk that ", OutputPath(damaged->uri),
                        " lies on");
  }
  if (!not_saved.empty()) {
    return absl::StrCat("the job has no checkpoint to go on from: ", not_saved);
  }
  return absl::StrCat("the job has no checkpoint to go on from; it saves one every ",
                      job.resolved_spec.training().save_steps(),
                      " steps, and a lower training.save_steps would lose less");
}

// A model that its worker says is not there may be, if the worker was killed between making it
// visible and noting so: as long as the job may run again, or its end is not known, it stays known,
// for the next one's `replaces` and for the job's deletion.
bool MayLieThere(const ArtifactRow& artifact, bool current, const TaskExit& exit) {
  if (artifact.kind != kModelKind || artifact.visible) return false;
  return !current || exit.retry || exit.outcome != AttemptState::kFailed;
}

}  // namespace

PublishAnswer AnswerRequest(const ReportTask& report, bool current, bool answered, JobRow* job,
                            Transaction& txn, std::vector<ReclaimRow>* reclaims) {
  const liger::trainer::v1::Saved& saved = *report.publish;
  const bool checkpoint = IsCheckpointKind(saved.kind());
  const std::optional<ArtifactRow> known =
      Find(txn.tables(), *job, report.ref.epoch(), report.worker_id, saved.publication_id());
  if (known.has_value() && (current || known->visible)) return Grant(txn.tables(), *job, *known);
  PublishAnswer answer{.worker_id = report.worker_id, .ref = report.ref};
  answer.publication_id = saved.publication_id();
  if (!current) {
    answer.denied_reason = "STALE_EPOCH";
  } else if (job->state == liger::v1::JobStatus::CANCELLING) {
    answer.denied_reason = "CANCELLED";
  } else if (saved.manifest_digest().empty()) {
    answer.denied_reason = "NO_DIGEST";
  } else if (saved.kind() != kModelKind && !checkpoint) {
    answer.denied_reason = "UNKNOWN_KIND";
  } else if (!checkpoint && HasCommittedModel(txn.tables(), *job, report.ref.epoch())) {
    answer.denied_reason = "ALREADY_PUBLISHED";
  } else if (checkpoint && answered) {
    answer.denied_reason = "RETIRED";
  }
  if (!answer.denied_reason.empty()) return answer;

  ArtifactRow artifact{.job_uid = job->uid, .epoch = report.ref.epoch(), .kind = saved.kind()};
  artifact.id = absl::StrCat(job->uid, "-", artifact.epoch, "-", saved.publication_id());
  artifact.publication_id = saved.publication_id();
  artifact.step = saved.step();
  artifact.digest = saved.manifest_digest();
  artifact.bytes = saved.bytes();
  artifact.worker_id = report.worker_id;
  artifact.created_us = txn.now_us();
  artifact.best = saved.best();
  artifact.visible = false;
  artifact.uri = OutputUri(txn.tables(), *job, report.worker_id);
  if (checkpoint) {
    absl::StrAppend(&artifact.uri, kCheckpointsSuffix, "/", CheckpointName(saved.step()));
  }
  txn.tables().PutArtifact(artifact);
  PrepareOutput(txn.tables(), artifact);
  if (!TellsPublications(txn.tables(), report.worker_id)) {
    Appear(artifact, job, txn);
    RetireCheckpoints(txn.tables(), *job, artifact, /*is_there=*/false, reclaims);
  }
  return Grant(txn.tables(), *job, artifact);
}

std::vector<PublishAnswer> GrantsToRepeat(const ReadView& view, const JobRow& job, int64_t epoch,
                                          const std::string& worker_id, bool current) {
  const bool tells = TellsPublications(view, worker_id);
  std::vector<PublishAnswer> answers;
  for (const ArtifactRow& artifact : view.Artifacts(job.tenant, job.uid)) {
    if (artifact.epoch != epoch || artifact.worker_id != worker_id) continue;
    // What is visible is known to a worker that has told so.
    const bool missed = artifact.visible ? !tells : current;
    if (missed) answers.push_back(Grant(view, job, artifact));
  }
  return answers;
}

void ApplyOutcome(const ReportTask& report, bool current, JobRow* job, Transaction& txn,
                  std::vector<ReclaimRow>* reclaims) {
  const liger::worker::v1::PublicationOutcome& outcome = *report.publication;
  const std::optional<ArtifactRow> artifact =
      Find(txn.tables(), *job, report.ref.epoch(), report.worker_id, outcome.publication_id());
  if (outcome.error().empty()) {
    if (artifact.has_value()) Arrive(*artifact, current, job, txn, reclaims);
    return;
  }
  // One that was there before was told so; the exit has the last word, and of models the only one.
  const bool withdrawn = artifact.has_value() && !artifact->visible && artifact->kind != kModelKind;
  if (withdrawn) Withdraw(*artifact, job, txn);
  if (current) WarnOfLoss(outcome, report.worker_id, job, txn);
}

void SettlePublications(const ReportTask& report, bool current, JobRow* job, Transaction& txn,
                        std::vector<ReclaimRow>* reclaims) {
  const std::vector<std::string>& unpublished = report.exit->unpublished;
  for (const ArtifactRow& artifact : txn.tables().Artifacts(job->tenant, job->uid)) {
    if (artifact.epoch != report.ref.epoch() || artifact.worker_id != report.worker_id) continue;
    if (std::find(unpublished.begin(), unpublished.end(), artifact.publication_id) ==
        unpublished.end()) {
      Arrive(artifact, current, job, txn, reclaims);
    } else if (!MayLieThere(artifact, current, *report.exit)) {
      Withdraw(artifact, job, txn);
    }
  }
}

void WarnOfBeginning(const AttemptRow& attempt, JobRow* job, Transaction& txn) {
  if (!attempt.resume_from.empty()) return;  // its trainer says why it does not go on from that
  const bool is_first = AttemptNumber(attempt.epoch) <= 1;
  if (is_first || job->resolved_spec.training().save_steps() <= 0) return;
  const auto& warnings = job->status.warnings();
  const std::string begins =
      absl::StrCat("attempt ", AttemptNumber(attempt.epoch), " begins at step 0");
  const bool told = std::any_of(warnings.begin(), warnings.end(), [&](const auto& warning) {
    return warning.code() == kBeganAgainCode && absl::StartsWith(warning.message(), begins);
  });
  if (told || !HadBegun(txn.tables(), attempt)) return;
  liger::v1::Warning& warning = *job->status.add_warnings();
  warning.set_code(kBeganAgainCode);
  warning.set_message(absl::StrCat(begins, ": ", WhyNoCheckpoint(txn.tables(), *job)));
  txn.AddEvent(job, "Warning", {warning.code(), warning.message(), ""});
}

}  // namespace liger::server
