#ifndef LIGER_WORKER_AGENT_INPUT_POLICY_H_
#define LIGER_WORKER_AGENT_INPUT_POLICY_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "liger/v1/job.pb.h"
#include "liger/v1/job_spec.pb.h"
#include "worker/agent/services.h"

namespace liger::agent {

// Below which models, adapters and data sets may lie: the model root, the dataset root and the
// output root, for what earlier jobs have made. A relative name is that below the first of them
// that has it.
std::vector<const Root*> InputRoots(const Services& services);

// Why a spec's paths may not be used on this worker, naming the field: an input
// outside of InputRoots and the allowed paths, an output outside of the output
// root or already there. nullopt: nothing against them.
// `check`: of a CHECK, before the job has written anything. `again`: of an attempt behind the
// first, which may find what that one made visible and could not tell any more; publishing compares
// them.
std::optional<v1::Failure> CheckSpecPaths(const v1::JobSpec& spec, const Services& services,
                                          bool check, bool again = false);

// A checkpoint, or a folder of them, as a path below the output root (where jobs put theirs, so
// that it comes first here) or one that inputs may lie below. PERMISSION_DENIED when it lies
// elsewhere; that it exists is the trainer's to find out.
absl::StatusOr<std::string> CheckpointPath(const std::string& uri, const Services& services);

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_INPUT_POLICY_H_
