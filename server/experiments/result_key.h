#ifndef LIGER_SERVER_EXPERIMENTS_RESULT_KEY_H_
#define LIGER_SERVER_EXPERIMENTS_RESULT_KEY_H_

#include <string>
#include <vector>

#include "server/store/records.h"

// What makes two jobs' results the same: the resolved spec, the model's and the
// data's digests, the worker's build and the type and memory of its devices.
namespace liger::server {

// Empty when the files of the job are not all known by digest on that worker, or
// when it reads others besides (an adapter, a checkpoint).
std::string ResultKey(const liger::v1::JobSpec& resolved_spec, const std::string& spec_hash,
                      const WorkerRow& worker, const liger::worker::v1::DeviceInfo& device);

// The keys that a result could have on the workers that are READY.
std::vector<std::string> PossibleKeys(const liger::v1::JobSpec& resolved_spec,
                                      const std::string& spec_hash,
                                      const std::vector<WorkerRow>& workers);

}  // namespace liger::server

#endif  // LIGER_SERVER_EXPERIMENTS_RESULT_KEY_H_
