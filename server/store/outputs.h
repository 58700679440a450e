#ifndef LIGER_SERVER_STORE_OUTPUTS_H_
#define LIGER_SERVER_STORE_OUTPUTS_H_

#include <cstdint>
#include <string>
#include <vector>

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

// The artifact is about to appear at its place: a removal that was still to come, of
// whichever worker, must not take it for what lies there now.
void PrepareOutput(Tables& tables, const ArtifactRow& artifact);

// The artifact is there: what lay there before is gone.
void TakeOutput(Tables& tables, const JobRow& job, const ArtifactRow& artifact);

// The trainer of attempt `epoch` found a checkpoint of an attempt before it damaged, which lies at
// warning.file now (kDamagedSuffix). Once, however often the attempt says so.
void QuarantineCheckpoint(Tables& tables, const JobRow& job, int64_t epoch,
                          const liger::v1::Warning& warning);

// Path of the job's good checkpoint that is there of the latest step, of whichever attempt; empty:
// it has none. A trainer that does not find it takes the one before it in that folder.
std::string NewestCheckpoint(const ReadView& view, const JobRow& job);

// Leaves the removal of an artifact to its worker (Reclaims). Where that one is LOST, all others
// with its output root are asked, too: they may share the disk, and one that does not finds nothing
// of that digest there. Adds what is to be sent to `reclaims`.
void ReclaimArtifact(Tables& tables, const ArtifactRow& artifact,
                     std::vector<ReclaimRow>* reclaims);

// As that, of all that `worker_id`, which is LOST now, has still to remove.
void PassOnReclaims(Tables& tables, const std::string& worker_id,
                    std::vector<ReclaimRow>* reclaims);

// What the worker, which has come, is to remove: its own, and what LOST ones have not.
std::vector<ReclaimRow> ReclaimsOf(Tables& tables, const WorkerRow& worker);

// Takes what training.save_total_limit leaves no room for off the job's list and reclaims it: those
// of earlier attempts first, whatever their steps, and never `latest`, which this is about. Those
// that are not visible are not counted, nor is `latest` unless it `is_there`. Nor are damaged ones,
// which stay.
void RetireCheckpoints(Tables& tables, const JobRow& job, const ArtifactRow& latest, bool is_there,
                       std::vector<ReclaimRow>* reclaims);

}  // namespace liger::server

#endif  // LIGER_SERVER_STORE_OUTPUTS_H_
