#ifndef LIGER_SERVER_EXPERIMENTS_PLAN_H_
#define LIGER_SERVER_EXPERIMENTS_PLAN_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "server/store/read_view.h"

// What follows for an experiment from what its jobs have come to. Pure.
namespace liger::server {

// A job that gave a result, and where it ran.
struct EarlierResult {
  JobRow job;
  std::vector<std::string> device_uuids;
};

struct ExperimentFacts {
  ExperimentRow row;
  // By index into experiment.jobs: those that exist.
  std::map<int, JobRow> jobs;
  // Of those that are over: what their results can be found by later; none when that
  // cannot be said.
  std::map<int, std::string> keys;
  // Earlier jobs that gave the result of a PENDING job, newest first; an entry, if
  // empty, for each of NextJobs. Turns without one wait for the next pass.
  std::map<int, std::vector<EarlierResult>> earlier;
  // No worker is there that could run what is next, so its earlier results are not known.
  bool no_worker = false;
  // The last steps of a job that has just ended are still on their way.
  bool steps_pending = false;
  // Why a job could not be submitted.
  std::map<int, std::string> refused;
};

struct ExperimentPlan {
  // The experiment after it, to be saved if `changed`.
  liger::v1::Experiment experiment;
  bool changed = false;
  std::vector<int> submit;                // indices into experiment.jobs
  std::vector<std::string> cancel;        // job uids
  std::vector<ResultRow> results;         // to be found by later experiments
  std::vector<std::string> reclaim_jobs;  // uids of jobs whose outputs go
};

ExperimentPlan PlanExperiment(const ExperimentFacts& facts, int64_t now_us);

// What the next pass looks at: PENDING jobs of turns that there is room for, of which
// earlier results are worth looking for.
std::vector<int> NextJobs(const liger::v1::Experiment& experiment);

// The result that a job which is over gave: SUCCEEDED, OUT_OF_MEMORY, FAILED or
// CANCELLED; ACTIVE for one that is not over.
liger::v1::ExperimentJob::Outcome OutcomeOf(const JobRow& job);

// Whether a later experiment may take what that job, which is over, came to. What
// the host has left of its memory is another matter each time.
bool IsReusable(const JobRow& job);

// Devices that a waiting job should run on, since the other jobs of its point and
// run did: by job uid.
struct Pin {
  std::string worker_id;
  std::vector<std::string> device_uuids;
};
std::map<std::string, Pin> PinsOf(const ReadView& view);

}  // namespace liger::server

#endif  // LIGER_SERVER_EXPERIMENTS_PLAN_H_
