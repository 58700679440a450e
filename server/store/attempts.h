#ifndef LIGER_SERVER_STORE_ATTEMPTS_H_
#define LIGER_SERVER_STORE_ATTEMPTS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "server/store/commands.h"
#include "server/store/transition.h"

// What several commands do to attempts.
namespace liger::server {

// task_id of an attempt's TRAIN task.
inline constexpr char kTrainTaskId[] = "train";

liger::trainer::v1::Ref TrainRef(const std::string& job_uid, int64_t epoch);
liger::trainer::v1::Ref CheckRef(const TaskRow& task);

// The epoch is the job's and its attempt may still run.
bool IsCurrent(const JobRow& job, const AttemptRow& attempt);

// Epochs are shown without the store's generation, which is 0 unless a backup
// was restored.
constexpr int64_t AttemptNumber(int64_t epoch) { return epoch & 0xffffffff; }

// The attempt's model was committed: a pause comes too late.
bool HasCommittedModel(const ReadView& view, const JobRow& job, int64_t epoch);

// And it is there: whatever happens now, the job succeeds, and a cancel comes too late.
bool HasVisibleModel(const ReadView& view, const JobRow& job, int64_t epoch);

// Training is done, and a worker that has not gone brings the model to its place: the
// ends of others do not matter, and what becomes of the attempt is that one's to tell.
bool AwaitsModel(const ReadView& view, const JobRow& job, int64_t epoch);

// The attempt goes on without this member, which is gone without having told its end.
bool IsGone(const ReadView& view, const MemberRow& member);

// Stops for the members of an attempt that still hold devices, but for
// `except_worker`.
std::vector<TaskStop> StopsFor(const ReadView& view, const std::string& job_uid, int64_t epoch,
                               const std::string& except_worker = "");

void ReleaseMember(Transaction& txn, MemberRow* member);

// A sign of life of a current attempt: STARTING -> RUNNING, once.
absl::Status MarkRunning(Transaction& txn, JobRow* job, AttemptRow* attempt);

// How an attempt came to its end.
struct AttemptEnd {
  AttemptState state = AttemptState::kFailed;
  bool retry = false;  // run the job again, within max_restarts
  bool free = false;   // and that costs no restart
  liger::v1::Failure failure;
  int32_t max_restarts = 0;
};

// Ends a current attempt and moves its job on: SUCCEEDED when its model is there,
// CANCELLED when that was asked, RECOVERING when it may be run again, else FAILED.
// Releases nothing.
absl::Status EndAttempt(Transaction& txn, JobRow* job, AttemptRow* attempt, const AttemptEnd& end);

// The end that broke a gang: of those that the members told, the one that did not
// follow from another's; nullptr: none has failed. `own`: only one that no other
// member's end explains.
const MemberExit* CauseOf(const std::vector<MemberRow>& members, bool own = false);

// How an attempt ends that a member's end broke: the message names the rank.
AttemptEnd EndOf(const MemberExit& exit, const std::vector<MemberRow>& members,
                 int32_t max_restarts);

// EndAttempt for an attempt whose worker is gone or came back without it, unless a
// member of it had failed before by itself.
absl::Status LoseAttempt(Transaction& txn, JobRow* job, AttemptRow* attempt,
                         const std::string& detail, int32_t max_restarts);

// Puts a job whose attempt never began back in the queue.
absl::Status Abandon(Transaction& txn, JobRow* job, AttemptRow* attempt, const std::string& detail);

// To FAILED with cause and action.
absl::Status FailWith(Transaction& txn, JobRow* job, const std::string& reason,
                      const liger::v1::Failure& failure);

// CamelCase reason of a failure class: "OutOfDeviceMemory".
const char* FailureReason(liger::v1::FailureClass failure_class);

}  // namespace liger::server

#endif  // LIGER_SERVER_STORE_ATTEMPTS_H_
