#ifndef LIGER_SERVER_SCHEDULER_REACH_H_
#define LIGER_SERVER_SCHEDULER_REACH_H_

#include <vector>

#include "server/scheduler/device_sets.h"

// Which workers' ranks find each other: those of a gang meet at its first worker. One whose address
// is loopback's is reached by workers of its own host alone. Pure functions.
namespace liger::server {

// Whether any of these workers may be of one gang: ReachableSets parts no set of them.
bool AllMeet(const std::vector<const WorkerRow*>& workers);

// The set in parts, which may overlap: whichever workers of one a gang takes, all of them are of
// one host, or one of them is reached by the others.
std::vector<DeviceSet> ReachableSets(DeviceSet set);

// Where a gang is on several hosts, its workers that all others reach come first.
void PutReachedFirst(std::vector<WorkerDevices>* gang);

// Of a gang that only such addresses keep apart; `needs`: "needs 2 GPUs".
Shortage WhyOutOfReach(const std::vector<const WorkerRow*>& workers, const std::string& needs);

}  // namespace liger::server

#endif  // LIGER_SERVER_SCHEDULER_REACH_H_
