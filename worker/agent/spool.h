#ifndef LIGER_WORKER_AGENT_SPOOL_H_
#define LIGER_WORKER_AGENT_SPOOL_H_

#include <deque>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "liger/worker/v1/agent_state.pb.h"
#include "liger/worker/v1/worker.pb.h"
#include "common/unique_fd.h"

namespace liger::agent {

// One task's events between the trainer and the coordinator's acknowledgement.
// Numbers them, gapless from 1, and keeps each on disk before it is sent, so
// that a restarted agent repeats the same numbers.
class Spool {
 public:
  // Reads what an earlier agent left, dropping a torn record at the end.
  static absl::StatusOr<std::unique_ptr<Spool>> Open(const std::string& path);

  // Fills in ref, seq and time. `source_seq` is the number of the trainer event
  // of `source_rank` that it was made from, 0 for the agent's own. The result,
  // a publication, what became of it, or an exit, is synced to disk.
  absl::Status Append(worker::v1::TaskEvent event, const trainer::v1::Ref& ref, int source_rank = 0,
                      int64_t source_seq = 0);
  // The task's last event, where the disk takes nothing more: kept in memory
  // only. An agent that is restarted before it is acknowledged makes it anew,
  // under the same number.
  void HoldExit(worker::v1::TaskEvent event, const trainer::v1::Ref& ref);
  // These hold for this agent even when they could not be written: a restarted
  // one finds them out anew. The outcome is an event; an unwritten one is not told.
  absl::Status RecordPublication(const worker::v1::PublicationOutcome& outcome,
                                 const trainer::v1::Ref& ref);
  absl::Status RecordStop(const std::string& reason);

  // Forgets events up to `seq`, once they are known elsewhere.
  void Acknowledge(int64_t seq);
  // The oldest event after `seq` that is not acknowledged; nullptr when none.
  const worker::v1::TaskEvent* After(int64_t seq) const;

  int64_t last_seq() const { return last_seq_; }
  int64_t acknowledged() const { return acknowledged_; }
  bool exited() const { return exited_; }
  bool drained() const { return pending_.empty(); }
  size_t pending() const { return pending_.size(); }
  // Empty: nobody asked it to stop.
  const std::string& stop_reason() const { return stop_reason_; }
  // Highest trainer event of a rank that made it into the spool.
  int64_t source_seq(int rank) const;
  // Publications asked for, and of those the ones that are over.
  const std::map<std::string, worker::v1::TaskEvent>& requested() const { return requested_; }
  const std::map<std::string, worker::v1::PublicationOutcome>& outcomes() const {
    return outcomes_;
  }

 private:
  absl::Status Load(const std::string& path);
  void Stamp(worker::v1::TaskEvent& event, const trainer::v1::Ref& ref) const;
  absl::Status Write(const worker::v1::SpoolRecord& record, bool sync);
  void Apply(const worker::v1::SpoolRecord& record);

  UniqueFd fd_;
  std::string path_;
  std::deque<worker::v1::TaskEvent> pending_;
  int64_t last_seq_ = 0;
  int64_t acknowledged_ = 0;
  bool exited_ = false;
  std::string stop_reason_;
  std::map<int, int64_t> source_seq_;
  std::map<std::string, worker::v1::TaskEvent> requested_;
  std::map<std::string, worker::v1::PublicationOutcome> outcomes_;
};

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_SPOOL_H_
