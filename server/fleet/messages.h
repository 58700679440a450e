#ifndef LIGER_SERVER_FLEET_MESSAGES_H_
#define LIGER_SERVER_FLEET_MESSAGES_H_

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "liger/worker/v1/worker.pb.h"
#include "server/fleet/lease.h"
#include "server/jobs/fleet_port.h"

// The coordinator's commands as messages, and what comes back.
namespace liger::server {

liger::worker::v1::Lease ToProto(const LeaseTerms& terms);

liger::worker::v1::CoordinatorMessage PrepareMessage(const TaskStart& start,
                                                     absl::Duration deadline);
liger::worker::v1::CoordinatorMessage StartMessage(const TaskStart& start,
                                                   const liger::worker::v1::Master& master);
// The command id is made from the ref: a repeated STOP is the same command.
liger::worker::v1::CoordinatorMessage StopMessage(const liger::trainer::v1::Ref& ref,
                                                  double grace_seconds, const std::string& reason);
liger::worker::v1::CoordinatorMessage PauseMessage(const liger::trainer::v1::Ref& ref);
liger::worker::v1::CoordinatorMessage AbortMessage(const liger::trainer::v1::Ref& ref);
liger::worker::v1::CoordinatorMessage ReclaimMessage(const std::vector<ReclaimRow>& outputs);
std::vector<ReclaimRow> FromProto(const std::string& worker_id,
                                  const liger::worker::v1::Reclaimed& reclaimed);
liger::worker::v1::CoordinatorMessage PublishMessage(const PublishAnswer& answer);

}  // namespace liger::server

#endif  // LIGER_SERVER_FLEET_MESSAGES_H_
