#ifndef LIGER_SERVER_JOBS_SPEC_RESOLVER_H_
#define LIGER_SERVER_JOBS_SPEC_RESOLVER_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "liger/v1/job_spec.pb.h"
#include "server/catalog/catalog.h"
#include "server/store/records.h"

namespace liger::server {

struct ResolvedSpec {
  liger::v1::JobSpec spec;  // every default filled, every name pinned
  std::string hash;         // common/spec's SpecHash
  std::vector<std::string> notices;
  std::vector<liger::v1::Warning> warnings;  // common/spec's SpecWarnings
};

// What a submitted spec means: names pinned by the catalog, the device kind by
// the workers there are, then common/spec's validation and defaults. Pure.
// `name_suffix` makes the default name unique. INVALID_ARGUMENT lists every
// field that is wrong.
absl::StatusOr<ResolvedSpec> ResolveSpec(const liger::v1::JobSpec& spec, const Catalog& catalog,
                                         const std::vector<WorkerRow>& workers,
                                         const std::string& name_suffix);

}  // namespace liger::server

#endif  // LIGER_SERVER_JOBS_SPEC_RESOLVER_H_
