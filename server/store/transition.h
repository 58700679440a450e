#ifndef LIGER_SERVER_STORE_TRANSITION_H_
#define LIGER_SERVER_STORE_TRANSITION_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "server/store/commands.h"
#include "server/store/store.h"
#include "server/store/tables.h"

namespace liger::server {

// One command being applied: the rows, its time and actor, and what it has
// changed so far. The only writer of jobs and events.
class Transaction {
 public:
  Transaction(Tables* tables, const Command& command, int64_t generation)
      : tables_(*tables),
        now_us_(command.time_us),
        actor_(command.actor),
        generation_(generation) {}

  Tables& tables() { return tables_; }
  int64_t now_us() const { return now_us_; }
  int64_t generation() const { return generation_; }

  // Why a job is in the state it enters.
  struct Why {
    std::string reason;   // CamelCase
    std::string message;  // for people
    std::string action;   // what to do; may be empty
  };

  // The one place where a job's state changes. INTERNAL, and no effect, when
  // the table in server/jobs/transitions.h does not have the transition.
  absl::Status SetJobState(JobRow* job, JobState to, const Why& why);

  // Writes the job under a new revision, without an event.
  void SaveJob(JobRow* job);

  // Writes the job under a new revision with a lifecycle event.
  void AddEvent(JobRow* job, const std::string& type, const Why& why);

  // The changes, each with its job as the command left it.
  std::vector<JobChange> TakeChanges();

 private:
  void Record(JobRow* job, std::optional<liger::v1::JobEvent> event);

  struct Change {
    std::string job_uid;
    std::optional<liger::v1::JobEvent> event;
    int64_t revision;
  };

  Tables& tables_;
  const int64_t now_us_;
  const std::string actor_;
  const int64_t generation_;
  std::vector<Change> changes_;
};

}  // namespace liger::server

#endif  // LIGER_SERVER_STORE_TRANSITION_H_
