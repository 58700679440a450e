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

// Where an attempt of a job ran, and what it said of itself at its end.
struct RanAttempt {
  liger::v1::RunEnvironment environment;
  std::vector<liger::worker::v1::DeviceInfo> devices;  // those of its ranks that are known
};

// Of a job that has run. Empty, too, when one of its attempts has not said what it ran on
// and read, or not the same as the others; when something changed while it ran; when its
// text depends on the date; and when it did not have as many devices, of one type, as the
// spec asks for.
std::string ResultKey(const liger::v1::JobSpec& resolved_spec, const std::string& spec_hash,
                      const std::vector<RanAttempt>& attempts);

// The keys that a result could have on the workers that are READY.
std::vector<std::string> PossibleKeys(const liger::v1::JobSpec& resolved_spec,
                                      const std::string& spec_hash,
                                      const std::vector<WorkerRow>& workers);

}  // namespace liger::server

#endif  // LIGER_SERVER_EXPERIMENTS_RESULT_KEY_H_
