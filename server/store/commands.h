#ifndef LIGER_SERVER_STORE_COMMANDS_H_
#define LIGER_SERVER_STORE_COMMANDS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "server/store/records.h"

// What can happen to the store. A command is plain data: it carries its time
// and every identifier it makes, so that applying the same commands to two
// stores gives the same rows. Each names its Result.
namespace liger::server {

// One message for a worker about a task that must stop there.
struct TaskStop {
  std::string worker_id;
  liger::trainer::v1::Ref ref;
};

// The store's answer to a publish request. A grant may be sent any number of
// times: making a publication visible is idempotent.
struct PublishAnswer {
  std::string worker_id;
  liger::trainer::v1::Ref ref;
  std::string publication_id;
  bool granted = false;
  std::string output_uri;     // kind model, granted: file:// URI to appear at
  std::string denied_reason;  // STALE_EPOCH, CANCELLED, RETIRED, ...
  std::vector<std::string> replaces;  // granted: as PublishGranted.replaces
};

// Submits a job in VALIDATING. ALREADY_EXISTS: REQUEST_ID_REUSED, when the
// request id was used with another body; NAME_TAKEN, when a job that is not
// deleted has the name. INVALID_ARGUMENT (output.uri) when the output is another
// job's (server/store/outputs.h).
struct CreateJob {
  JobRow job;  // uid, tenant, name, method, model, spec, resolved_spec, spec_hash, hash_version
  std::string request_id;  // empty: no idempotency
  std::string body_hash;
  int64_t request_expires_us = 0;

  struct Result {
    liger::v1::Job job;
    bool existed = false;  // the request id gave an earlier job
  };
};

// Gives a job in VALIDATING a CHECK task. FAILED_PRECONDITION when the job has
// left VALIDATING or has a check running.
struct AssignCheck {
  std::string job_uid;
  std::string task_id;
  std::string worker_id;
  struct Result {
    TaskRow task;
    JobRow job;
  };
};

struct MemberPlan {
  std::string worker_id;
  std::vector<int32_t> ranks;
  std::vector<std::string> device_uuids;  // one a rank
};

// Records a new attempt: QUEUED or RECOVERING -> STARTING under a new epoch,
// with every member's devices, or nothing at all (I7). FAILED_PRECONDITION
// when the job moved on, a worker is not READY or lacks a device, or a device
// is occupied (I6).
struct StartAttempt {
  std::string job_uid;
  std::vector<MemberPlan> members;
  std::string resume_from;
  struct Result {
    int64_t epoch = 0;
    JobRow job;
    std::vector<MemberRow> members;
  };
};

// An attempt that never ran (refused, Prepare timed out, aborted, or never
// delivered): its devices are free again and the job waits for the next
// placement, or is CANCELLED if it was CANCELLING. Costs no restart. An attempt
// that is over already frees this worker's devices only; one that has begun on this
// worker is left alone. With `others_run` the gang's other workers were told to
// start: they are to stop, and their devices stay occupied until they have. With
// epoch 0 and a task id it is a CHECK that never ran.
struct AbandonAttempt {
  std::string worker_id;  // who does not run it
  std::string job_uid;
  int64_t epoch = 0;
  std::string detail;
  std::string task_id;
  bool others_run = false;
  struct Result {
    bool abandoned = false;
    std::vector<TaskStop> stops;
  };
};

// How a task ended, as server/jobs/failure_policy.h reads it.
struct TaskExit {
  // kSucceeded, kFailed, kCancelled or kPaused.
  AttemptState outcome = AttemptState::kFailed;
  bool retry = false;                            // kFailed: run it again, within max_restarts
  bool worker_stopped = false;                   // with retry: that costs no restart
  liger::v1::Failure failure;
  std::vector<std::string> unpublished;  // asked for, and not visible for good
};

// What a worker reported of one task, merged over the events first_seq to
// through_seq, and their acknowledgement, in one transaction. Events that were
// acknowledged before have no effect. OUT_OF_RANGE when first_seq leaves a gap.
// A report of a stale epoch (or finished task) is acknowledged and changes
// nothing but the devices an exit frees.
struct ReportTask {
  std::string worker_id;
  liger::trainer::v1::Ref ref;
  int64_t first_seq = 0;
  int64_t through_seq = 0;

  bool started = false;
  std::vector<liger::v1::KernelRan> kernels_ran;
  std::optional<liger::trainer::v1::Ready> ready;  // of rank 0, with started
  std::map<std::string, std::string> communication;  // with started
  std::optional<liger::trainer::v1::Inputs> inputs;  // of rank 0, at its end
  std::optional<liger::v1::Progress> progress;     // the newest
  std::vector<liger::v1::Evaluation> evaluations;
  std::vector<liger::v1::Sample> samples;
  std::vector<liger::v1::Warning> warnings;
  std::optional<liger::trainer::v1::CheckResult> check_result;
  std::optional<liger::v1::Failure> check_failure;  // with check_result: the job cannot run
  std::optional<liger::trainer::v1::Saved> publish;
  std::optional<liger::worker::v1::PublicationOutcome> publication;
  std::optional<TaskExit> exit;
  int32_t max_restarts = 2;

  struct Result {
    int64_t acked_seq = 0;  // acknowledge through here
    bool stale = false;     // the worker should stop this task
    bool pause = false;     // the worker should pause it
    std::optional<PublishAnswer> publish;
    std::vector<ReclaimRow> reclaims;  // to send; they come again after Hello
    // An end that breaks the gang: the others are to stop. The attempt ends with the
    // last of them, or with SettleGang.
    std::vector<TaskStop> stops;
    bool gang_broken = false;
  };
};

// Ends a gang that is broken, though not all of its workers have told their end.
// Ignored when the attempt is over or not broken.
struct SettleGang {
  std::string job_uid;
  int64_t epoch = 0;
  int32_t max_restarts = 2;
  struct Result {};
};

// A worker's Hello against what the store expects of it. Records the worker as
// READY, adopts what is current, loses what is missing and frees the devices
// of what is gone. FAILED_PRECONDITION STALE_INCARNATION for an older
// incarnation than the one known.
struct ReconcileWorker {
  liger::worker::v1::Hello hello;
  int32_t max_restarts = 2;
  struct Result {
    std::vector<liger::worker::v1::Verdict> verdicts;  // one for each of hello.owned
    std::vector<PublishAnswer> grants;                 // to send (again) after Welcome
    std::vector<liger::trainer::v1::Ref> restarts;     // adopted, Start may not have arrived
    std::vector<TaskStop> stops;                       // members of gangs that broke
    std::vector<TaskStop> pauses;                      // of jobs that are PAUSING
    std::vector<ReclaimRow> reclaims;                  // not yet done
  };
};

// The worker's lease ran out. Its attempts are lost and may be placed
// elsewhere; their devices stay occupied until their exit is reported. Ignored
// for an incarnation that is not current.
struct LoseWorker {
  std::string worker_id;
  int64_t incarnation = 0;
  int32_t max_restarts = 2;
  struct Result {
    std::vector<TaskStop> stops;       // other members of gangs that broke
    std::vector<ReclaimRow> reclaims;  // to send; they come again after Hello
  };
};

// The full inventory, when a heartbeat says that it changed.
struct UpdateInventory {
  std::string worker_id;
  int64_t incarnation = 0;
  std::vector<liger::worker::v1::InventoryItem> inventory;
  struct Result {};
};

// Devices of a worker that failed: no job gets them (cordoned) until the worker has
// another boot id. The jobs that hold one get an event. Ignored for an incarnation
// that is not current.
struct CordonDevices {
  std::string worker_id;
  int64_t incarnation = 0;
  std::vector<liger::worker::v1::DeviceFault> faults;
  struct Result {};
};

// Idempotent. One that runs goes to PAUSING, one that waits for devices is PAUSED.
// FAILED_PRECONDITION JOB_NOT_PAUSABLE in other states; NOT_FOUND JOB_NOT_FOUND.
struct PauseJob {
  std::string tenant;
  std::string job;  // name or uid
  std::string reason;
  struct Result {
    liger::v1::Job job;
    std::vector<TaskStop> pauses;  // workers to tell
  };
};

// Idempotent: PAUSED becomes QUEUED; a job that waits or runs stays.
// FAILED_PRECONDITION JOB_NOT_PAUSED for one that is over, or not PAUSED yet;
// NOT_FOUND JOB_NOT_FOUND.
struct ResumeJob {
  std::string tenant;
  std::string job;  // name or uid
  struct Result {
    liger::v1::Job job;
  };
};

// Idempotent. A job that waits is CANCELLED at once; one that runs goes to
// CANCELLING; one that is terminal, or has committed its model, stays.
// NOT_FOUND JOB_NOT_FOUND.
struct CancelJob {
  std::string tenant;
  std::string job;  // name or uid
  std::string reason;
  struct Result {
    liger::v1::Job job;
    std::vector<TaskStop> stops;
  };
};

// Ends a CANCELLING job whose worker did not report in time. Its devices stay
// occupied. Ignored in any other state.
struct ForceCancel {
  std::string job_uid;
  int64_t epoch = 0;
  struct Result {};
};

// FAILED for a job that waits (VALIDATING, QUEUED, RECOVERING) and can never
// run. Ignored in any other state.
struct FailJob {
  std::string job_uid;
  std::string reason;
  liger::v1::Failure failure;
  struct Result {};
};

// Terminal jobs only: FAILED_PRECONDITION JOB_NOT_TERMINAL. The name is free
// afterwards. With `delete_output` what the job published is to be removed by
// the workers that have it, however long they are away.
struct DeleteJob {
  std::string tenant;
  std::string job;
  bool delete_output = false;
  struct Result {
    std::string job_uid;
    std::vector<ReclaimRow> reclaims;   // to send; they come again after Hello
    std::vector<LogFileRow> log_files;  // the caller removes them
  };
};

// A worker has removed these outputs, or found something else there. One that
// was asked for since, of another digest at the same place, is still to come.
struct FinishReclaims {
  std::vector<ReclaimRow> outputs;
  struct Result {};
};

// Why jobs wait. A change makes a new revision but no event. Jobs that no
// longer wait are left alone.
struct SetWaitReasons {
  struct Reason {
    std::string job_uid;
    std::string reason;
    std::string message;
    std::string action;
  };
  std::vector<Reason> reasons;
  struct Result {};
};

// Logged steps of any number of jobs. A chunk whose steps are all known is
// dropped; one that overlaps is kept whole, so readers skip repeated steps.
struct AppendMetrics {
  std::vector<MetricChunkRow> chunks;
  struct Result {};
};

struct PutLogFiles {
  std::vector<LogFileRow> files;
  struct Result {};
};

// Drops request ids past their time, and the metric chunks and log rows of
// jobs that were deleted or ended before `drop_metrics_before_us`.
struct ExpireRows {
  int64_t drop_metrics_before_us = 0;
  struct Result {
    std::vector<LogFileRow> log_files;  // rows that went; the caller removes the files
  };
};

// Makes an experiment, RUNNING. ALREADY_EXISTS: REQUEST_ID_REUSED, as CreateJob;
// EXPERIMENT_NAME_TAKEN, when one that is not deleted has the name.
struct CreateExperiment {
  ExperimentRow row;  // uid, tenant, name and experiment
  std::string request_id;
  std::string body_hash;
  int64_t request_expires_us = 0;
  struct Result {
    liger::v1::Experiment experiment;
    bool existed = false;
  };
};

// What has become of an experiment's jobs. ABORTED when it has changed since
// `revision`. `state` and what the API shows are taken from `experiment`.
struct SaveExperiment {
  std::string uid;
  int64_t revision = 0;
  liger::v1::Experiment experiment;
  std::vector<ResultRow> results;
  // Jobs whose outputs are to be removed.
  std::vector<std::string> reclaim_jobs;
  struct Result {
    std::vector<ReclaimRow> reclaims;  // to send; they come again after Hello
  };
};

// Idempotent: RUNNING becomes CANCELLING, another state stays. NOT_FOUND
// EXPERIMENT_NOT_FOUND.
struct CancelExperiment {
  std::string tenant;
  std::string experiment;  // name or uid
  std::string reason;
  struct Result {
    liger::v1::Experiment experiment;
  };
};

// The name is free afterwards; one that runs is cancelled. NOT_FOUND
// EXPERIMENT_NOT_FOUND.
struct DeleteExperiment {
  std::string tenant;
  std::string experiment;
  struct Result {
    std::string uid;
  };
};

using CommandBody =
    std::variant<CreateJob, AssignCheck, StartAttempt, AbandonAttempt, ReportTask, ReconcileWorker,
                 SettleGang, LoseWorker, UpdateInventory, CordonDevices, PauseJob, ResumeJob,
                 CancelJob, ForceCancel, FailJob, DeleteJob, FinishReclaims, SetWaitReasons,
                 AppendMetrics, PutLogFiles, ExpireRows, CreateExperiment, SaveExperiment,
                 CancelExperiment, DeleteExperiment>;

using CommandResult =
    std::variant<CreateJob::Result, AssignCheck::Result, StartAttempt::Result,
                 AbandonAttempt::Result, ReportTask::Result, ReconcileWorker::Result,
                 SettleGang::Result, LoseWorker::Result, UpdateInventory::Result,
                 CordonDevices::Result, PauseJob::Result, ResumeJob::Result, CancelJob::Result,
                 ForceCancel::Result, FailJob::Result, DeleteJob::Result, FinishReclaims::Result,
                 SetWaitReasons::Result, AppendMetrics::Result, PutLogFiles::Result,
                 ExpireRows::Result, CreateExperiment::Result, SaveExperiment::Result,
                 CancelExperiment::Result, DeleteExperiment::Result>;

struct Command {
  int64_t time_us = 0;
  std::string actor;  // user, scheduler, worker:<id>, system
  CommandBody body;
};

}  // namespace liger::server

#endif  // LIGER_SERVER_STORE_COMMANDS_H_
