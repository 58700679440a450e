#ifndef LIGER_WORKER_AGENT_ATTEMPT_FOLDER_H_
#define LIGER_WORKER_AGENT_ATTEMPT_FOLDER_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "liger/trainer/v1/trainer.pb.h"
#include "liger/worker/v1/agent_state.pb.h"

namespace liger::agent {

// "job_uid/epoch/task_id", to find tasks by.
std::string TaskKey(const trainer::v1::Ref& ref);

// One task's folder below <data-dir>/attempts/:
//
//   attempt.pb      AttemptRecord: what was asked for, and which processes run
//   launch.pb       the trainer's Launch
//   events.<rank>   the trainer's event file
//   log.<rank>      its stdout and stderr
//   spool           SpoolRecords
//   work/           the only folder that the trainer writes to
class AttemptFolder {
 public:
  explicit AttemptFolder(std::string path) : path_(std::move(path)) {}

  // INVALID_ARGUMENT when an id of `ref` could not be a file name.
  static absl::StatusOr<AttemptFolder> Create(const std::string& attempts_dir,
                                              const trainer::v1::Ref& ref);

  const std::string& path() const { return path_; }
  std::string record() const { return path_ + "/attempt.pb"; }
  std::string launch() const { return path_ + "/launch.pb"; }
  std::string events(int rank) const;
  std::string log(int rank) const;
  std::string spool() const { return path_ + "/spool"; }
  std::string work() const { return path_ + "/work"; }

  absl::Status WriteRecord(const worker::v1::AttemptRecord& record) const;
  absl::StatusOr<worker::v1::AttemptRecord> ReadRecord() const;

 private:
  std::string path_;
};

// Attempt folders that are no longer reported on.
class AttemptArchive {
 public:
  AttemptArchive(std::string data_dir, int keep_count, absl::Duration keep_for);

  // Folders of tasks that an earlier agent did not finish.
  std::vector<AttemptFolder> Unfinished() const;
  void Remove(const AttemptFolder& folder) const;
  // Moves the folder of a failed attempt to <data-dir>/failed, for whoever
  // looks into it, and prunes that to the newest `keep_count` of at most
  // `keep_for`. One without a rank's log goes.
  void Keep(const AttemptFolder& folder) const;
  void Prune() const;

  const std::string& attempts_dir() const { return attempts_dir_; }

 private:
  std::string attempts_dir_;
  std::string failed_dir_;
  int keep_count_;
  absl::Duration keep_for_;
};

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_ATTEMPT_FOLDER_H_
