#ifndef LIGER_SERVER_STORE_RECORDS_H_
#define LIGER_SERVER_STORE_RECORDS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "google/protobuf/timestamp.pb.h"
#include "liger/trainer/v1/trainer.pb.h"
#include "liger/v1/experiments.pb.h"
#include "liger/v1/job.pb.h"
#include "liger/v1/job_spec.pb.h"
#include "liger/worker/v1/worker.pb.h"
#include "server/jobs/transitions.h"

// The rows of the store (docs/protocol.md, Tables). Times are microseconds
// since the Unix epoch; 0 means "not yet".
namespace liger::server {

struct JobRow {
  std::string uid;
  std::string tenant;
  std::string name;
  JobState state = liger::v1::JobStatus::STATE_UNSPECIFIED;
  std::string reason;
  int32_t priority = 0;
  std::string method;  // sft, dpo, orpo, kto, cpo
  std::string model;   // spec.model.name, for the list filter
  liger::v1::JobSpec spec;
  liger::v1::JobSpec resolved_spec;
  std::string spec_hash;
  int32_t hash_version = 0;
  // All but state, reason, epoch, restarts and attempts, which stay empty: columns
  // and the attempts table hold those.
  liger::v1::JobStatus status;
  int64_t epoch = 0;
  int32_t restarts = 0;
  int64_t created_us = 0;
  int64_t updated_us = 0;
  int64_t started_us = 0;
  int64_t ended_us = 0;
  int64_t state_since_us = 0;  // last transition
  int64_t revision = 0;
  int64_t last_event_seq = 0;
  int64_t deleted_us = 0;
  // resolved_spec.output.uri as OutputPath spells it, to find who holds it.
  std::string output;
};

enum class AttemptState {
  kStarting = 1,  // recorded; the worker has not reported Started
  kRunning = 2,
  kSucceeded = 3,
  kFailed = 4,
  kLost = 5,       // the worker's lease ran out, or it came back without it
  kCancelled = 6,  // by the user, or because the worker refused it
  kPaused = 7,     // its checkpoint is saved
};
const char* AttemptStateName(AttemptState state);
constexpr bool IsOver(AttemptState state) { return state > AttemptState::kRunning; }

struct AttemptRow {
  std::string job_uid;
  int64_t epoch = 0;
  AttemptState state = AttemptState::kStarting;
  std::string resume_from;
  int64_t started_us = 0;
  int64_t ended_us = 0;
  liger::v1::FailureClass failure_class = liger::v1::FAILURE_CLASS_UNSPECIFIED;
  int32_t first_failed_rank = 0;  // -1: not known
  std::string detail;
};

// How one worker's part of an attempt ended.
struct MemberExit {
  AttemptState outcome = AttemptState::kFailed;
  bool retry = false;  // as TaskExit
  bool free = false;   // as TaskExit.worker_stopped
  liger::v1::Failure failure;
  int64_t time_us = 0;  // when it was reported
};

// One worker's part of an attempt. Its devices are occupied until
// `released_us`, whatever became of the attempt: that is the only place where
// a reservation stands (I6).
struct MemberRow {
  std::string job_uid;
  int64_t epoch = 0;
  int32_t node_rank = 0;
  std::string worker_id;
  int64_t incarnation = 0;
  std::vector<int32_t> ranks;
  std::vector<std::string> device_uuids;
  int64_t acked_event_seq = 0;
  int64_t released_us = 0;
  std::optional<MemberExit> exit;
};

enum class TaskState { kRunning = 1, kDone = 2, kLost = 3, kCancelled = 4 };

// A CHECK of a job. TRAIN tasks are attempts; dry runs are not stored.
struct TaskRow {
  std::string task_id;
  liger::trainer::v1::TaskKind kind = liger::trainer::v1::TASK_KIND_CHECK;
  std::string job_uid;
  std::string worker_id;
  int64_t incarnation = 0;
  TaskState state = TaskState::kRunning;
  liger::trainer::v1::CheckResult result;
  int64_t acked_event_seq = 0;
  int64_t created_us = 0;
};

// kDraining and kUnfit are never stored.
enum class WorkerState { kReady = 1, kLost = 2, kDraining = 3, kUnfit = 4 };
const char* WorkerStateName(WorkerState state);

struct WorkerRow {
  std::string worker_id;
  int64_t incarnation = 0;
  std::string boot_id;
  // The last Hello without `owned`; its inventory follows the heartbeats.
  liger::worker::v1::Hello hello;
  WorkerState state = WorkerState::kReady;
  bool cordoned = false;
  int64_t updated_us = 0;
};

struct RequestRow {
  std::string tenant;
  std::string method;
  std::string request_id;
  std::string body_hash;
  std::string job_uid;
  int64_t expires_us = 0;
};

struct ArtifactRow {
  std::string id;
  std::string job_uid;
  int64_t epoch = 0;
  std::string publication_id;
  std::string kind;  // model, checkpoint
  int64_t step = 0;
  std::string uri;
  std::string digest;
  int64_t bytes = 0;
  std::string worker_id;
  int64_t created_us = 0;
  std::string damage;  // why a checkpoint is quarantined; empty: it is not
  // False: granted, and its worker has not told that it is there. No one else counts it.
  bool visible = true;
  liger::v1::BestEvaluation best;  // of a model: Saved.best
};

// An output that a worker is to remove, until it says that it has.
struct ReclaimRow {
  std::string worker_id;
  std::string uri;
  std::string digest;  // what lies there has it, or is somebody else's
};

// `blob` is a serialized liger.worker.v1.MetricChunk.
struct MetricChunkRow {
  std::string job_uid;
  int64_t epoch = 0;
  int64_t first_step = 0;
  int64_t last_step = 0;
  std::string blob;
};

struct LogFileRow {
  std::string job_uid;
  int64_t epoch = 0;
  int32_t rank = 0;
  std::string path;            // below the coordinator's data folder
  int64_t through_offset = 0;  // everything before it is stored
};

using ExperimentState = liger::v1::Experiment::State;

// The columns are for queries; `experiment` is all of it, as the API shows it but
// without what its jobs tell. Its counts and job states are filled in by reading.
struct ExperimentRow {
  std::string uid;
  std::string tenant;
  std::string name;
  ExperimentState state = liger::v1::Experiment::RUNNING;
  liger::v1::Experiment experiment;
  int64_t created_us = 0;
  int64_t revision = 0;
  int64_t deleted_us = 0;
};

// A job whose result later experiments may take; `key` is
// liger.v1.ExperimentJob.result_key.
struct ResultRow {
  std::string tenant;
  std::string key;
  std::string job_uid;
  int64_t recorded_us = 0;
};

google::protobuf::Timestamp ToTimestamp(int64_t micros);

}  // namespace liger::server

#endif  // LIGER_SERVER_STORE_RECORDS_H_
