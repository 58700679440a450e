#ifndef LIGER_SERVER_EXPERIMENTS_RESULT_KEY_H_
#define LIGER_SERVER_EXPERIMENTS_RESULT_KEY_H_

#include <string>
#include <vector>

#include "server/store/records.h"

// What makes two jobs' results the same: the resolved spec, the digests of code, model
// and data, the worker's build and the type and memory of its devices.
namespace liger::server {

// Of a job that would run there as the worker is now. Empty when the files of the job are
// not all known by digest on that worker, or when it reads others besides (an adapter, a
// checkpoint).
std::string PlannedKey(const liger::v1::JobSpec& resolved_spec, const std::string& spec_hash,
                       const WorkerRow& worker, const liger::worker::v1::DeviceInfo& device);

// Of a job that has run on such a device, by what its attempts said of themselves at their
// ends. Empty, too, when one of them has not said it, or not the same as the others, when
// something changed while it ran, and when its text depends on the date.
std::string ResultKey(const liger::v1::JobSpec& resolved_spec, const std::string& spec_hash,
                      const std::vector<liger::v1::RunEnvironment>& attempts,
                      const liger::worker::v1::DeviceInfo& device);

// The keys that a result could have on the workers that are READY.
std::vector<std::string> PossibleKeys(const liger::v1::JobSpec& resolved_spec,
                                      const std::string& spec_hash,
                                      const std::vector<WorkerRow>& workers);

}  // namespace liger::server

#endif  // LIGER_SERVER_EXPERIMENTS_RESULT_KEY_H_
