#ifndef LIGER_CLIENT_REPORT_REPORT_DATA_H_
#define LIGER_CLIENT_REPORT_REPORT_DATA_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "liger/v1/experiments.pb.h"

// What a report is made from: jobs in a grid of points and series, with what they
// logged and where they ran. Filled from an experiment or from two jobs; the
// tables, plots and files below read nothing else.
namespace liger::client {

// A logged step.
struct StepData {
  int64_t step = 0;
  double loss = 0;  // NaN: not logged
  double seconds = 0;
  double tokens_per_second = 0;

  double tokens() const { return tokens_per_second * seconds; }
};

struct RunData {
  int point = 0;
  int series = 0;
  int run = 0;
  std::string job_name;
  std::string job_uid;
  liger::v1::ExperimentJob::Outcome outcome = liger::v1::ExperimentJob::PENDING;
  bool cached = false;
  std::string message;
  std::string spec_hash;
  std::vector<StepData> steps;                       // by step
  std::map<std::string, int64_t> peak_memory_bytes;  // by kind
  std::vector<std::pair<std::string, std::string>> kernels_ran;
  liger::v1::RunEnvironment environment;

  bool out_of_memory() const { return outcome == liger::v1::ExperimentJob::OUT_OF_MEMORY; }
  // It ended well and has steps to show.
  bool measured() const { return outcome == liger::v1::ExperimentJob::SUCCEEDED && !steps.empty(); }
};

struct PointData {
  std::string x;      // value on the plots' axis
  std::string facet;  // the other axes, "" when there are none
  std::string label;  // all of it
};

// One field that jobs do not have in common, though they are compared.
struct Difference {
  std::string field;
  std::vector<std::string> values;  // one a series; of several runs, all
};

struct ReportData {
  std::string title;
  std::string summary;  // what it is and how it ended
  std::string uid;
  std::string x_title;              // what PointData::x is
  std::vector<std::string> series;  // "LIGER", "BASELINE"
  std::vector<PointData> points;
  std::vector<RunData> runs;
  // Fields but for the kernels that differ: of two jobs all, of an experiment's the build,
  // the versions with the files' digests, and the type of device, where they differ at one
  // point. What is compared is then more than the kernels.
  std::vector<Difference> differences;
  // What all jobs have in common, as a job file.
  std::string job_yaml;

  std::vector<const RunData*> Of(int point, int series) const;
};

ReportData FromExperiment(const liger::v1::Experiment& experiment,
                          const std::map<std::string, liger::v1::Run>& runs_by_job_uid);
ReportData FromJobs(const liger::v1::Run& first, const liger::v1::Run& second);

}  // namespace liger::client

#endif  // LIGER_CLIENT_REPORT_REPORT_DATA_H_
