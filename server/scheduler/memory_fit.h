#ifndef LIGER_SERVER_SCHEDULER_MEMORY_FIT_H_
#define LIGER_SERVER_SCHEDULER_MEMORY_FIT_H_

#include <optional>
#include <string>
#include <vector>

#include "common/spec/memory_needs.h"
#include "server/scheduler/device_sets.h"
#include "server/store/records.h"

// Which GPUs hold a rank of a job, by what its CHECK predicted. Of CPUs nothing is said:
// their memory is the host's, and other slots may leave theirs to the job. Pure functions.
namespace liger::server {

// Whether the device holds the least of a rank of `world_size`; true where one of the two is
// not known.
bool HoldsRank(const liger::worker::v1::DeviceInfo& device, const liger::v1::JobSpec& resolved,
               const MemoryNeeds& needs, int world_size);

// Takes the other devices out of the set.
void KeepThoseThatHold(const liger::v1::JobSpec& resolved, const MemoryNeeds& needs,
                       int world_size, DeviceSet* set);

// Why too few of these workers' devices hold a rank of the job as it asks for: what it needs,
// what is there, what to change. nullopt: resources.count of them do, or are not known to be
// too small, or there are no devices of the kind.
std::optional<Shortage> WhyTooSmall(const std::vector<const WorkerRow*>& workers,
                                    const liger::v1::JobSpec& resolved, const MemoryNeeds& needs);

// The same where none of the devices that these workers have, cordoned ones included, holds a
// rank.
std::optional<Shortage> AllTooSmall(const std::vector<WorkerRow>& workers,
                                    const liger::v1::JobSpec& resolved, const MemoryNeeds& needs);

// What a dry run warns of where some device there holds a rank: it is predicted to take more than
// the largest has, or too few are large enough.
std::optional<liger::v1::Warning> MemoryWarning(const std::vector<WorkerRow>& workers,
                                                const liger::v1::JobSpec& resolved,
                                                const MemoryNeeds& needs);

// What a rank takes. Empty: nothing is known.
std::string MemoryNotice(const std::vector<WorkerRow>& workers,
                         const liger::v1::JobSpec& resolved, const MemoryNeeds& needs);

}  // namespace liger::server

#endif  // LIGER_SERVER_SCHEDULER_MEMORY_FIT_H_
