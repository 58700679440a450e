#ifndef LIGER_WORKER_AGENT_LEASE_H_
#define LIGER_WORKER_AGENT_LEASE_H_

#include <cstdint>
#include <map>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "liger/worker/v1/worker.pb.h"

namespace liger::agent {

// The worker's half of the lease (docs/protocol.md, Leases).
//
// The lease is held for `fence` after the moment at which the last
// acknowledged heartbeat was *sent*: the coordinator counts from its later
// arrival, so the worker always stops before the coordinator reassigns. Times
// are SteadyNow()'s. Thread-safe: the publisher asks right before it renames.
class Lease {
 public:
  Lease();

  // A session was opened: the Hello went out at `hello_sent`.
  void Renew(const worker::v1::Lease& terms, absl::Time hello_sent);
  void HeartbeatSent(int64_t seq, absl::Time now);
  // Unknown and repeated numbers are ignored.
  void HeartbeatAcknowledged(int64_t seq);

  // True before the first Welcome, too.
  bool Fenced(absl::Time now) const;
  // The coordinator has been away for so long that the trainers must go.
  // Counted from the start for an agent that never had a lease.
  bool Orphaned(absl::Time now) const;
  absl::Duration heartbeat_interval() const;
  absl::Duration fence() const;

 private:
  mutable absl::Mutex mutex_;
  absl::Duration heartbeat_ ABSL_GUARDED_BY(mutex_);
  absl::Duration fence_ ABSL_GUARDED_BY(mutex_);
  absl::Duration orphan_timeout_ ABSL_GUARDED_BY(mutex_);
  bool held_once_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time held_since_ ABSL_GUARDED_BY(mutex_);
  // Sent and not acknowledged, by number.
  std::map<int64_t, absl::Time> in_flight_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_LEASE_H_
