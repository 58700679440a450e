#ifndef LIGER_SERVER_STORE_PUBLICATIONS_H_
#define LIGER_SERVER_STORE_PUBLICATIONS_H_

#include <string>
#include <vector>

#include "server/store/commands.h"
#include "server/store/transition.h"

// From the grant of a publication to what its worker tells of it. Until that it is in
// nobody's way: no attempt goes on from it, nothing is removed for it.
namespace liger::server {

// Code of the warning that a checkpoint could not be made visible.
inline constexpr char kNotPublishedCode[] = "NotPublished";

// Code of a trainer's warning that it did not save one.
inline constexpr char kNotSavedCode[] = "CheckpointNotSaved";

// Code of the warning that an attempt behind the first one begins at step 0.
inline constexpr char kBeganAgainCode[] = "BeganAgain";

// Granted under the current epoch only, and not once a cancel was recorded. Asking
// again gives the same answer. `answered`: the request was answered before; a checkpoint
// that is not known by now was removed since, and is not wanted again.
// REQUIRES: the report has a request.
PublishAnswer AnswerRequest(const ReportTask& report, bool current, bool answered, JobRow* job,
                            Transaction& txn, std::vector<ReclaimRow>* reclaims);

// The grants of this epoch that the worker may have missed.
std::vector<PublishAnswer> GrantsToRepeat(const ReadView& view, const JobRow& job, int64_t epoch,
                                          const std::string& worker_id, bool current);

// What has become of a publication: it is there, in the place of what lay there before,
// or it does not exist after all. REQUIRES: the report has one.
void ApplyOutcome(const ReportTask& report, bool current, JobRow* job, Transaction& txn,
                  std::vector<ReclaimRow>* reclaims);

// The same of all that the worker was granted, at its exit. REQUIRES: the report has one.
void SettlePublications(const ReportTask& report, bool current, JobRow* job, Transaction& txn,
                        std::vector<ReclaimRow>* reclaims);

// Warns, once for an attempt, that it begins at step 0 though an earlier one had taken steps and
// the job saves checkpoints.
void WarnOfBeginning(const AttemptRow& attempt, JobRow* job, Transaction& txn);

}  // namespace liger::server

#endif  // LIGER_SERVER_STORE_PUBLICATIONS_H_
