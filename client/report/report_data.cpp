#include "client/report/report_data.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "common/spec/enum_names.h"
#include "common/spec/yaml_proto.h"
#include "nlohmann/json.hpp"

namespace liger::client {
namespace {

using liger::v1::Experiment;
using liger::v1::ExperimentJob;
using liger::v1::Run;

std::string KernelsName(liger::v1::KernelMode mode) {
  return ShortEnumName(*liger::v1::KernelMode_descriptor()->FindValueByNumber(mode));
}

double ValueOr(const liger::v1::MetricPoint& point, const char* name, double missing) {
  const auto found = point.values().find(name);
  return found == point.values().end() ? missing : found->second;
}

void AddRun(const Run& run, RunData* data) {
  data->job_name = run.job().name();
  data->job_uid = run.job().uid();
  data->spec_hash = run.job().spec_hash();
  data->environment = run.environment();
  for (const auto& [kind, bytes] : run.job().status().progress().peak_memory_bytes()) {
    data->peak_memory_bytes[kind] = bytes;
  }
  for (const auto& kernel : run.job().status().kernels_ran()) {
    data->kernels_ran.emplace_back(kernel.op(), kernel.path());
  }
  int64_t last = 0;
  for (const auto& point : run.points()) {
    if (point.step() <= last) continue;  // a chunk that was stored twice
    last = point.step();
    data->steps.push_back({point.step(), ValueOr(point, "loss", NAN),
                           ValueOr(point, "step_seconds", 0),
                           ValueOr(point, "tokens_per_second", 0)});
  }
}

ExperimentJob::Outcome OutcomeOf(const liger::v1::JobStatus& status) {
  switch (status.state()) {
    case liger::v1::JobStatus::SUCCEEDED:
      return ExperimentJob::SUCCEEDED;
    case liger::v1::JobStatus::CANCELLED:
      return ExperimentJob::CANCELLED;
    case liger::v1::JobStatus::FAILED:
      break;
    default:
      return ExperimentJob::ACTIVE;
  }
  const auto failure = status.failure().class_();
  return failure == liger::v1::FAILURE_CLASS_OOM_DEVICE ||
                 failure == liger::v1::FAILURE_CLASS_OOM_HOST
             ? ExperimentJob::OUT_OF_MEMORY
             : ExperimentJob::FAILED;
}

// The axis that plots are drawn against: the batch size, else the first whose
// values are all numbers, else the first.
int PlotAxis(const liger::v1::ExperimentSpec& spec) {
  int numeric = -1;
  for (int i = 0; i < spec.grid_size(); ++i) {
    const auto& values = spec.grid(i).values();
    const bool numbers = std::all_of(values.begin(), values.end(), [](const std::string& value) {
      double number = 0;
      return absl::SimpleAtod(value, &number);
    });
    if (absl::EndsWith(spec.grid(i).field(), "train_batch_size")) return i;
    if (numbers && numeric < 0) numeric = i;
  }
  return std::max(numeric, 0);
}

// "per_device_train_batch_size" of "training.per_device_train_batch_size".
std::string ShortField(const std::string& field) { return field.substr(field.rfind('.') + 1); }

PointData PointOf(const liger::v1::ExperimentPoint& point, int plot_axis) {
  PointData data;
  for (int i = 0; i < point.values_size(); ++i) {
    const std::string text =
        absl::StrCat(ShortField(point.values(i).field()), " ", point.values(i).value());
    absl::StrAppend(&data.label, data.label.empty() ? "" : ", ", text);
    if (i == plot_axis) {
      data.x = point.values(i).value();
    } else {
      absl::StrAppend(&data.facet, data.facet.empty() ? "" : ", ", text);
    }
  }
  return data;
}

// Every set field by its path: "training.learning_rate" -> "2e-05".
std::map<std::string, std::string> Flatten(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string json;
  (void)google::protobuf::util::MessageToJsonString(message, &json, options);
  std::map<std::string, std::string> fields;
  const nlohmann::json flat = nlohmann::json::parse(json).flatten();
  if (flat.is_null()) return fields;
  for (const auto& [path, value] : flat.items()) {
    if (path.empty()) continue;
    fields[absl::StrReplaceAll(path.substr(1), {{"/", "."}})] =
        value.is_string() ? value.get<std::string>() : value.dump();
  }
  return fields;
}

void AddDifferences(const google::protobuf::Message& first, const google::protobuf::Message& second,
                    const std::string& prefix, std::vector<Difference>* differences) {
  const std::map<std::string, std::string> a = Flatten(first);
  const std::map<std::string, std::string> b = Flatten(second);
  std::set<std::string> paths;
  for (const auto& [path, value] : a) paths.insert(path);
  for (const auto& [path, value] : b) paths.insert(path);
  const auto at = [](const auto& fields, const std::string& path) {
    const auto found = fields.find(path);
    return found == fields.end() ? std::string("not set") : found->second;
  };
  for (const std::string& path : paths) {
    if (at(a, path) != at(b, path)) {
      differences->push_back({prefix + path, {at(a, path), at(b, path)}});
    }
  }
}

// Without what two jobs always differ in, or may: their names and the kernels.
liger::v1::JobSpec Comparable(const liger::v1::Job& job) {
  liger::v1::JobSpec spec = job.resolved_spec();
  spec.clear_name();
  spec.clear_labels();
  spec.clear_output();
  spec.clear_kernels();
  return spec;
}

liger::v1::RunEnvironment Comparable(liger::v1::RunEnvironment environment) {
  environment.clear_device_state();  // clocks and temperature vary
  return environment;
}

liger::v1::RunEnvironment WhatRan(const RunData& run) {
  liger::v1::RunEnvironment what;
  what.set_device_model(run.environment.device_model());
  what.set_build(run.environment.build());
  *what.mutable_versions() = run.environment.versions();
  return what;
}

// What the jobs of one point should have in common of where they ran. On which of
// several equal devices is another matter: the settings of a point and run share it.
void AddDifferences(const ReportData& data, std::vector<Difference>* differences) {
  using Values = std::vector<std::set<std::string>>;      // by series
  std::map<std::string, std::map<int, Values>> by_field;  // then by point
  std::vector<std::pair<const RunData*, std::map<std::string, std::string>>> all;
  for (const RunData& run : data.runs) {
    if (run.environment.build().empty()) continue;  // it did not start
    all.emplace_back(&run, Flatten(WhatRan(run)));
    for (const auto& [field, value] : all.back().second) by_field[field];
  }
  for (auto& [field, points] : by_field) {
    for (const auto& [run, fields] : all) {
      Values& values = points[run->point];
      values.resize(data.series.size());
      const auto found = fields.find(field);
      values[run->series].insert(found == fields.end() ? "not set" : found->second);
    }
    Values differing(data.series.size());
    bool some = false;
    for (const auto& [point, values] : points) {
      std::set<std::string> of_point;
      for (const auto& of_series : values) of_point.insert(of_series.begin(), of_series.end());
      if (of_point.size() < 2) continue;
      some = true;
      for (size_t i = 0; i < values.size(); ++i) {
        differing[i].insert(values[i].begin(), values[i].end());
      }
    }
    if (!some) continue;
    Difference& difference = differences->emplace_back();
    difference.field = "environment." + field;
    for (const auto& of_series : differing) {
      difference.values.push_back(absl::StrJoin(of_series, ", "));
    }
  }
}

std::string SeriesName(const Run& run) {
  const auto mode = run.job().resolved_spec().kernels().mode();
  return absl::StrCat(mode == liger::v1::KERNEL_MODE_UNSPECIFIED ? "" : KernelsName(mode) + ": ",
                      run.job().name());
}

}  // namespace

std::vector<const RunData*> ReportData::Of(int point, int series_index) const {
  std::vector<const RunData*> found;
  for (const RunData& run : runs) {
    if (run.point == point && run.series == series_index) found.push_back(&run);
  }
  return found;
}

ReportData FromExperiment(const Experiment& experiment, const std::map<std::string, Run>& runs) {
  ReportData data;
  data.title = experiment.name();
  data.uid = experiment.uid();
  data.summary = absl::StrCat(Experiment::State_Name(experiment.state()),
                              experiment.message().empty() ? "" : ": ", experiment.message());
  const int axis = PlotAxis(experiment.spec());
  data.x_title = ShortField(experiment.spec().grid(axis).field());
  for (const int mode : experiment.spec().kernels()) {
    data.series.push_back(KernelsName(static_cast<liger::v1::KernelMode>(mode)));
  }
  for (const auto& point : experiment.points()) data.points.push_back(PointOf(point, axis));
  const auto& modes = experiment.spec().kernels();
  for (const ExperimentJob& job : experiment.jobs()) {
    RunData& run = data.runs.emplace_back();
    run.point = job.point();
    run.run = job.run();
    run.series =
        static_cast<int>(std::find(modes.begin(), modes.end(), job.kernels()) - modes.begin());
    run.job_name = job.job_name();
    if (const auto found = runs.find(job.job_uid()); found != runs.end()) {
      AddRun(found->second, &run);
    }
    run.outcome = job.outcome();
    run.cached = job.cached();
    run.message = job.message();
  }
  AddDifferences(data, &data.differences);
  data.job_yaml = ToYaml(experiment.spec().job());
  return data;
}

ReportData FromJobs(const Run& first, const Run& second) {
  ReportData data;
  data.title = absl::StrCat(first.job().name(), " and ", second.job().name());
  data.summary =
      absl::StrCat("two jobs, ", liger::v1::JobStatus::State_Name(first.job().status().state()),
                   " and ", liger::v1::JobStatus::State_Name(second.job().status().state()));
  data.x_title = "job";
  data.points.push_back({"both jobs", "", "both jobs"});
  for (const Run* run : {&first, &second}) {
    RunData& added = data.runs.emplace_back();
    added.series = static_cast<int>(data.series.size());
    AddRun(*run, &added);
    added.outcome = OutcomeOf(run->job().status());
    if (added.outcome != ExperimentJob::SUCCEEDED) added.message = run->job().status().message();
    data.series.push_back(SeriesName(*run));
  }
  AddDifferences(Comparable(first.job()), Comparable(second.job()), "", &data.differences);
  AddDifferences(Comparable(first.environment()), Comparable(second.environment()), "environment.",
                 &data.differences);
  data.job_yaml = ToYaml(Comparable(first.job()));
  return data;
}

}  // namespace liger::client
