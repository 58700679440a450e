#ifndef LIGER_SERVER_FLEET_LEASE_H_
#define LIGER_SERVER_FLEET_LEASE_H_

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace liger::server {

// Terms of the lease (docs/protocol.md, Leases), sent in Welcome.
struct LeaseTerms {
  absl::Duration heartbeat = absl::Seconds(2);
  // After this without an acknowledged heartbeat the worker publishes and
  // starts nothing.
  absl::Duration fence = absl::Seconds(15);
  // After this without a heartbeat its attempts may start elsewhere.
  absl::Duration reassign = absl::Seconds(20);
  // A worker stops its trainers when it hears nothing for so long.
  absl::Duration orphan_timeout = absl::Minutes(30);

  // INVALID_ARGUMENT unless heartbeat < fence < reassign < orphan_timeout: two
  // writers of one job would be possible otherwise (invariant I3).
  absl::Status Validate() const;
};

}  // namespace liger::server

#endif  // LIGER_SERVER_FLEET_LEASE_H_
