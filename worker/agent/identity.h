#ifndef LIGER_WORKER_AGENT_IDENTITY_H_
#define LIGER_WORKER_AGENT_IDENTITY_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/unique_fd.h"

namespace liger::agent {

// Who this agent is, kept in its data folder: the worker id for ever, the
// incarnation for one start, the boot id for one boot of the host. Also keeps
// the highest coordinator term that this worker has accepted.
class Identity {
 public:
  // Makes the folder and an id when there are none, and locks the folder
  // against a second agent: FAILED_PRECONDITION when it is taken.
  static absl::StatusOr<std::unique_ptr<Identity>> Load(const std::string& data_dir);

  const std::string& worker_id() const { return worker_id_; }
  int64_t incarnation() const { return incarnation_; }
  const std::string& boot_id() const { return boot_id_; }
  int64_t term_seen() const { return term_seen_; }

  // Remembers the term across restarts. FAILED_PRECONDITION for a term below
  // one already seen: an old coordinator must not command this worker.
  absl::Status AcceptTerm(int64_t term);

 private:
  std::string data_dir_;
  UniqueFd lock_;
  std::string worker_id_;
  std::string boot_id_;
  int64_t incarnation_ = 0;
  int64_t term_seen_ = 0;
};

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_IDENTITY_H_
