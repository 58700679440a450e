#ifndef LIGER_SERVER_STORE_READ_VIEW_H_
#define LIGER_SERVER_STORE_READ_VIEW_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/store/records.h"

namespace liger::server {

// Terms that must all hold (liger.v1.ListJobsRequest.filter).
struct JobFilter {
  std::optional<JobState> state;
  std::string method;  // empty: any
  std::string model;   // empty: any
  std::string name;    // empty: any
  bool name_is_prefix = false;
  std::vector<std::pair<std::string, std::string>> labels;
};

// INVALID_ARGUMENT (field "filter") that names the term it does not understand.
absl::StatusOr<JobFilter> ParseJobFilter(const std::string& filter);

struct JobQuery {
  std::string tenant;
  JobFilter filter;
  int32_t page_size = 50;
  std::string page_token;  // of the page before; empty: the first page
};

// Newest first. Ends early behind about 2 MiB of jobs, which also has a next page then.
struct JobPage {
  std::vector<JobRow> jobs;
  std::string next_page_token;  // empty: no more
};

struct ExperimentQuery {
  std::string tenant;
  int32_t page_size = 50;
  std::string page_token;
};

// Newest first.
struct ExperimentPage {
  std::vector<ExperimentRow> experiments;
  std::string next_page_token;  // empty: no more
};

// One consistent snapshot of the store. An error of the storage below makes
// status() non-OK for the rest of the view's life and every answer empty;
// Store::Read checks that, so that queries read as plain code.
class ReadView {
 public:
  virtual ~ReadView() = default;
  virtual absl::Status status() const = 0;

  // Deleted jobs are found by uid only.
  virtual std::optional<JobRow> Job(const std::string& uid) const = 0;
  virtual std::optional<JobRow> JobByName(const std::string& tenant,
                                          const std::string& name) const = 0;
  virtual absl::StatusOr<JobPage> ListJobs(const JobQuery& query) const = 0;
  // Not terminal, of all tenants, oldest first. limit 0: all.
  virtual std::vector<JobRow> ActiveJobs() const = 0;
  // The same without spec and resolved_spec, which are most of a row and never change.
  virtual std::vector<JobRow> ActiveJobsWithoutSpecs() const = 0;
  // The uids and epochs of jobs in RUNNING, of all tenants.
  virtual std::vector<std::pair<std::string, int64_t>> RunningJobs() const = 0;
  // With this JobRow::output, deleted ones too.
  virtual std::vector<JobRow> JobsByOutput(const std::string& tenant,
                                           const std::string& output) const = 0;
  // Whose JobRow::output lies in the folder `output`, deleted ones too.
  virtual std::vector<JobRow> JobsBelowOutput(const std::string& tenant,
                                              const std::string& output) const = 0;
  // Ended at `since_us` or later, without the deleted ones.
  virtual std::vector<JobRow> JobsEndedSince(int64_t since_us) const = 0;
  // Jobs by state, without the deleted ones.
  virtual std::vector<std::pair<JobState, int64_t>> CountJobs() const = 0;

  // Newest first.
  virtual std::vector<AttemptRow> Attempts(const std::string& job_uid) const = 0;
  virtual std::optional<AttemptRow> Attempt(const std::string& job_uid, int64_t epoch) const = 0;
  virtual std::vector<MemberRow> Members(const std::string& job_uid, int64_t epoch) const = 0;
  // Members that occupy devices, of one worker or (empty) of all.
  virtual std::vector<MemberRow> UnreleasedMembers(const std::string& worker_id) const = 0;

  virtual std::optional<TaskRow> Task(const std::string& task_id) const = 0;
  virtual std::vector<TaskRow> Tasks(const std::string& job_uid) const = 0;
  virtual std::vector<TaskRow> RunningTasks() const = 0;

  virtual std::optional<WorkerRow> Worker(const std::string& worker_id) const = 0;
  virtual std::vector<WorkerRow> Workers() const = 0;

  // Events of a job with seq > after_seq, in order.
  virtual std::vector<liger::v1::JobEvent> Events(const std::string& job_uid, int64_t after_seq,
                                                  int32_t limit) const = 0;
  // Events of all jobs of a tenant with revision > after_revision, in order.
  virtual std::vector<liger::v1::JobEvent> EventsSince(const std::string& tenant,
                                                       int64_t after_revision,
                                                       int32_t limit) const = 0;
  // The newest revision.
  virtual int64_t Revision() const = 0;

  virtual std::optional<RequestRow> Request(const std::string& tenant, const std::string& method,
                                            const std::string& request_id) const = 0;
  // Of one job, or (empty) of all jobs of the tenant that are not deleted;
  // newest first.
  virtual std::vector<ArtifactRow> Artifacts(const std::string& tenant,
                                             const std::string& job_uid) const = 0;
  virtual std::vector<ReclaimRow> Reclaims(const std::string& worker_id) const = 0;
  // Chunks that overlap [from_step, to_step], by first_step. to_step 0: to the end.
  virtual std::vector<MetricChunkRow> MetricChunks(const std::string& job_uid, int64_t epoch,
                                                   int64_t from_step, int64_t to_step) const = 0;
  // The first step that is stored; 0: none.
  virtual int64_t MetricsFromStep(const std::string& job_uid, int64_t epoch) const = 0;
  // Steps up to here are stored; 0: none.
  virtual int64_t MetricsThroughStep(const std::string& job_uid, int64_t epoch) const = 0;
  virtual std::vector<LogFileRow> LogFiles(const std::string& job_uid) const = 0;

  // What an attempt ran on, once it has said so.
  virtual std::optional<liger::v1::RunEnvironment> Environment(const std::string& job_uid,
                                                               int64_t epoch) const = 0;
  // Deleted experiments are found by uid only.
  virtual std::optional<ExperimentRow> Experiment(const std::string& uid) const = 0;
  virtual std::optional<ExperimentRow> ExperimentByName(const std::string& tenant,
                                                        const std::string& name) const = 0;
  virtual absl::StatusOr<ExperimentPage> ListExperiments(const ExperimentQuery& query) const = 0;
  // RUNNING and CANCELLING, of all tenants, deleted ones too; oldest first.
  virtual std::vector<ExperimentRow> ActiveExperiments() const = 0;
  // Those that are over and not deleted, the one that changed last first, at most so many.
  virtual std::vector<ExperimentRow> EndedExperiments(int32_t limit) const = 0;
  // Uids of jobs with this result, newest first.
  virtual std::vector<std::string> Results(const std::string& tenant,
                                           const std::string& key) const = 0;

  // meta: schema_version, cluster_id, generation, term.
  virtual std::string Meta(const std::string& key) const = 0;
};

// A job that is not deleted, by uid or else by name. NOT_FOUND JOB_NOT_FOUND.
absl::StatusOr<JobRow> FindJob(const ReadView& view, const std::string& tenant,
                               const std::string& name_or_uid);

// NOT_FOUND ATTEMPT_NOT_FOUND unless the job has the attempt; 0 is the newest, which
// may be none.
absl::Status RequireAttempt(const ReadView& view, const JobRow& job, int64_t epoch);

// An experiment that is not deleted, by uid or else by name. NOT_FOUND EXPERIMENT_NOT_FOUND.
absl::StatusOr<ExperimentRow> FindExperiment(const ReadView& view, const std::string& tenant,
                                             const std::string& name_or_uid);

// The uid that an earlier request of this method and id made, while it is remembered.
// ALREADY_EXISTS REQUEST_ID_REUSED when that had another body.
absl::StatusOr<std::optional<std::string>> EarlierUid(const ReadView& view,
                                                      const std::string& tenant,
                                                      const std::string& method,
                                                      const std::string& request_id,
                                                      const std::string& body_hash, int64_t now_us);

// The job of an earlier CreateJob with this request id, while it is remembered.
// ALREADY_EXISTS REQUEST_ID_REUSED when that had another body.
absl::StatusOr<std::optional<JobRow>> EarlierJob(const ReadView& view, const std::string& tenant,
                                                 const std::string& request_id,
                                                 const std::string& body_hash, int64_t now_us);
inline constexpr char kCreateMethod[] = "CreateJob";
inline constexpr char kCreateExperimentMethod[] = "CreateExperiment";

// The row as the API shows it, with its attempts.
liger::v1::Job ToProto(const ReadView& view, const JobRow& row);
liger::v1::Artifact ToProto(const ArtifactRow& row);
// With its counts, and how far its jobs are.
liger::v1::Experiment ToProto(const ReadView& view, const ExperimentRow& row);
// ALREADY_EXISTS EXPERIMENT_NAME_TAKEN when one that is not deleted has the name.
absl::Status CheckNewExperiment(const ReadView& view, const std::string& tenant,
                                const std::string& name);

}  // namespace liger::server

#endif  // LIGER_SERVER_STORE_READ_VIEW_H_
