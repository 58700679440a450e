#ifndef LIGER_WORKER_AGENT_INPUT_POLICY_H_
#define LIGER_WORKER_AGENT_INPUT_POLICY_H_

#include <optional>

#include "liger/v1/job.pb.h"
#include "liger/v1/job_spec.pb.h"
#include "worker/agent/services.h"

namespace liger::agent {

// Why a spec's paths may not be used on this worker, naming the field: an input
// outside of the model and dataset roots and the allowed paths, an output outside of the output
// root or already there. nullopt: nothing against them.
std::optional<v1::Failure> CheckSpecPaths(const v1::JobSpec& spec, const Services& services);

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_INPUT_POLICY_H_
