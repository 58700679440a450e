#ifndef LIGER_SERVER_EXPERIMENTS_EXPAND_H_
#define LIGER_SERVER_EXPERIMENTS_EXPAND_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "liger/v1/experiments.pb.h"

// What jobs an experiment is. Pure: equal specs give equal jobs in equal order.
namespace liger::server {

inline constexpr int kMaxPoints = 256;
inline constexpr int kMaxExperimentJobs = 2048;
inline constexpr size_t kMaxExperimentName = 40;

// Fills the experiment's own defaults; the job's stay to its resolution.
void FillExperimentDefaults(liger::v1::ExperimentSpec* spec);

// Everything that is wrong with the experiment itself, not with its jobs.
// Fields are paths in ExperimentSpec.
std::vector<liger::v1::Violation> ValidateExperiment(const liger::v1::ExperimentSpec& spec);

// The points in order of the grid (the last axis fastest), and the jobs in the
// order in which they are submitted: run by run and point by point, the kernel
// settings of a point and run next to each other, and in turn the one or the
// other first, so that no drift of the device falls on one of them.
// REQUIRES: a valid spec with its defaults; uid not empty.
liger::v1::Experiment Expand(const liger::v1::ExperimentSpec& spec, const std::string& uid);

// What is submitted for that job of `experiment`: the template at the job's
// point and kernel setting, with its name and the labels `experiment` and
// `point` (none for a grid of no axes).
// INVALID_ARGUMENT when a value does not go into its field.
absl::StatusOr<liger::v1::JobSpec> JobSpecOf(const liger::v1::Experiment& experiment,
                                             const liger::v1::ExperimentJob& job);

// Index of the first of those jobs that take turns with jobs[index] on one
// device; they are kernels().size() many.
int TurnBegin(const liger::v1::Experiment& experiment, int index);

// The turn, of any experiment, that a job so named had a part in: jobs with equal
// ones are of one experiment, point and run, `kernels` settings each. "" for a name
// that Expand does not give.
std::string TurnOfJob(const std::string& job_name, int kernels);

inline constexpr char kExperimentLabel[] = "experiment";
inline constexpr char kExperimentUidLabel[] = "experiment_uid";
// Where in the grid, for people: "per_device_train_batch_size 8, r 16".
inline constexpr char kPointLabel[] = "point";

}  // namespace liger::server

#endif  // LIGER_SERVER_EXPERIMENTS_EXPAND_H_
