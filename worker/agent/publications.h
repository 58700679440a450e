#ifndef LIGER_WORKER_AGENT_PUBLICATIONS_H_
#define LIGER_WORKER_AGENT_PUBLICATIONS_H_

#include <atomic>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "liger/worker/v1/worker.pb.h"
#include "worker/agent/publisher.h"
#include "worker/agent/services.h"
#include "worker/agent/spool.h"

namespace liger::agent {

// One task's results on their way to the user: saved by the trainer, asked for
// at the coordinator, granted or denied, made visible. What was asked for and
// what became of it is in the spool, which tells the coordinator, so a restarted agent goes on.
class Publications {
 public:
  Publications(const Services& services, Spool& spool, trainer::v1::Ref ref,
               std::string attempt_dir, v1::OutputSpec output);

  // Reads the folder against its manifest in the background, once.
  void Verify(const trainer::v1::Saved& saved);
  bool Verified(const std::string& publication_id) const {
    return verified_.contains(publication_id);
  }
  void OnVerified(const trainer::v1::Saved& saved, const absl::Status& status);

  // Goes on with what the end of a lease interrupted, and tells what had no room in the spool.
  void Tick(absl::Time now);

  void Granted(const worker::v1::PublishGranted& granted);
  void Denied(const worker::v1::PublishDenied& denied);
  void OnPublished(const worker::v1::PublishGranted& granted,
                   const absl::StatusOr<PublishResult>& result);
  // Nobody will answer any more.
  void GiveUp(const std::string& reason);
  // The attempt is over for the coordinator: nothing more becomes visible, what is under
  // way included.
  void Revoke(const std::string& reason);

  // Requests to send again on a new session: the answer may have been lost
  // with the old one, even though the event was acknowledged. By seq. Grants of the old
  // session that were not used count no more.
  std::vector<worker::v1::TaskEvent> AskAgain();
  bool AllSettled() const;
  // The worker could not verify the model or make it visible: why. Empty: fine.
  std::string storage_error() const;
  // Asked for, and will not be visible.
  std::vector<std::string> Unpublished() const;

 private:
  bool Settled(const std::string& id) const { return spool_.outcomes().contains(id); }
  void Settle(const worker::v1::PublicationOutcome& outcome);
  void Tell(const worker::v1::PublicationOutcome& outcome);
  // Settles what nothing more is done for.
  void Drop(const std::string& id, const std::string& reason);
  Publication MakePublication(const std::string& id,
                              const worker::v1::PublishGranted& granted) const;
  std::string SourceDir(const trainer::v1::Saved& saved) const;

  const Services& services_;
  Spool& spool_;
  const trainer::v1::Ref ref_;
  const std::string attempt_dir_;
  const v1::OutputSpec output_;
  std::set<std::string> verifying_, verified_, publishing_;
  // Came, or were broken off, while the worker was fenced.
  std::map<std::string, worker::v1::PublishGranted> interrupted_;
  // Settled, and not in the spool: its disk is full.
  std::vector<worker::v1::PublicationOutcome> untold_;
  // Why, and for the publications under way that it is so.
  std::string revoked_;
  const std::shared_ptr<std::atomic<bool>> stopped_ = std::make_shared<std::atomic<bool>>(false);
};

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_PUBLICATIONS_H_
