#ifndef LIGER_SERVER_STORE_OUTPUTS_H_
#define LIGER_SERVER_STORE_OUTPUTS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "server/store/tables.h"

// Where jobs put their results, and who holds a place.
namespace liger::server {

// One spelling of a place: no scheme, no "." and no doubled or trailing slash.
// Empty stays empty.
std::string OutputPath(const std::string& uri);

// INVALID_ARGUMENT (field output.uri) when another job may still write where
// `job` would, or a model of another job, a deleted one too, still lies there; a job
// that overwrites may go there. No job may go into another's output or checkpoints, nor
// around them.
absl::Status CheckOutputIsFree(const ReadView& view, const JobRow& job);

// Which job has the name and what to do about that; empty: none has it.
std::string WhyNameIsTaken(const ReadView& view, const std::string& tenant,
                           const std::string& name);

// What CreateJob refuses of a job whose spec is resolved: a name that is taken
// (ALREADY_EXISTS) or another job's uid, an output that is not free.
absl::Status CheckNewJob(const ReadView& view, const JobRow& job);

// The artifact is about to appear at its place: a removal that was still to come
// must not take it for what lies there now.
void PrepareOutput(Tables& tables, const ArtifactRow& artifact);

// The artifact is there: what lay there before is gone.
void TakeOutput(Tables& tables, const JobRow& job, const ArtifactRow& artifact);

// The trainer of attempt `epoch` found a checkpoint of an attempt before it damaged, which lies at
// warning.file now (kDamagedSuffix). Once, however often the attempt says so.
void QuarantineCheckpoint(Tables& tables, const JobRow& job, int64_t epoch,
                          const liger::v1::Warning& warning);

// Path of the job's newest good checkpoint, of any attempt; empty: it has none.
std::string NewestCheckpoint(const ReadView& view, const JobRow& job);

// Takes what training.save_total_limit leaves no room for off the job's list, and
// leaves its removal to its worker (Reclaims). The one of `step` is not counted: it
// may not be there yet. 0: all count. Nor are damaged ones, which stay.
void RetireCheckpoints(Tables& tables, const JobRow& job, int64_t step);

}  // namespace liger::server

#endif  // LIGER_SERVER_STORE_OUTPUTS_H_
