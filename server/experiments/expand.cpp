#include "server/experiments/expand.h"

#include <algorithm>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "common/spec/enum_names.h"
#include "common/spec/yaml_proto.h"
#include "common/utf8.h"

namespace liger::server {
namespace {

using liger::v1::Experiment;
using liger::v1::ExperimentJob;
using liger::v1::ExperimentSpec;
using liger::v1::KernelMode;
using liger::v1::Violation;

class Violations {
 public:
  void Add(const std::string& field, const std::string& message) {
    Violation& violation = list_.emplace_back();
    violation.set_field(field);
    violation.set_message(message);
  }
  std::vector<Violation> Take() { return std::move(list_); }

 private:
  std::vector<Violation> list_;
};

bool IsName(const std::string& name) {
  return !name.empty() && name.front() != '-' && name.back() != '-' &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '-';
         });
}

// What the experiment itself decides for each job; empty: the grid may have it.
std::string WhyNotInGrid(const std::string& field) {
  const std::string first = field.substr(0, field.find('.'));
  if (field == "kernels" || field == "kernels.mode")
    return "is the axis `kernels`; list modes there";
  if (first == "name" || first == "output" || first == "labels" || first == "priority") {
    return "is the experiment's to set; choose another field";
  }
  if (first == "resources") return "must be the same for all jobs; set it in job.resources";
  return "";
}

void CheckAxis(const ExperimentSpec& spec, int index, Violations* violations) {
  const liger::v1::GridAxis& axis = spec.grid(index);
  const std::string path = absl::StrCat("grid[", index, "]");
  if (axis.field().empty()) {
    return violations->Add(path + ".field",
                           "must be a job's field, such as training.per_device_train_batch_size");
  }
  for (int other = 0; other < index; ++other) {
    if (spec.grid(other).field() != axis.field()) continue;
    violations->Add(path + ".field",
                    absl::StrCat("'", axis.field(), "' is an axis already; give its values there"));
  }
  if (const std::string why = WhyNotInGrid(axis.field()); !why.empty()) {
    return violations->Add(path + ".field", absl::StrCat("'", axis.field(), "' ", why));
  }
  if (axis.values().empty()) return violations->Add(path + ".values", "is empty; give values");
  std::set<std::string> seen;
  for (const std::string& value : axis.values()) {
    if (!seen.insert(value).second) {
      violations->Add(path + ".values", absl::StrCat("'", value, "' is given twice; keep one"));
    }
    liger::v1::JobSpec job = spec.job();
    const absl::Status set = SetField(&job, axis.field(), value);
    if (set.ok()) continue;
    violations->Add(path + ".field", std::string(set.message()));
    return;  // the same of every value, mostly
  }
}

void CheckTemplate(const liger::v1::JobSpec& job, Violations* violations) {
  if (!job.name().empty()) {
    violations->Add("job.name", "jobs are named after the experiment; remove it");
  }
  if (job.has_output()) {
    violations->Add("job.output", "each job has an output of its own; remove it");
  }
  if (job.kernels().mode() != liger::v1::KERNEL_MODE_UNSPECIFIED) {
    violations->Add("job.kernels.mode", "is the axis `kernels`; list modes there");
  }
  if (job.labels().contains(kExperimentLabel)) {
    violations->Add("job.labels.experiment", "is the experiment's name; remove it");
  }
  if (job.labels().contains(kExperimentUidLabel)) {
    violations->Add("job.labels.experiment_uid", "is the experiment's uid; remove it");
  }
  if (job.labels().contains(kPointLabel)) {
    violations->Add("job.labels.point", "is the job's place in the grid; remove it");
  }
}

void CheckKernels(const ExperimentSpec& spec, Violations* violations) {
  std::set<int> seen;
  for (const int mode : spec.kernels()) {
    if (mode != liger::v1::KERNEL_MODE_LIGER && mode != liger::v1::KERNEL_MODE_BASELINE) {
      violations->Add("kernels", "each must be LIGER or BASELINE");
    } else if (!seen.insert(mode).second) {
      violations->Add("kernels", "a mode is given twice; use runs for repetitions");
    }
  }
}

// 0: more than can be counted.
int64_t CountPoints(const ExperimentSpec& spec) {
  int64_t points = 1;
  for (const auto& axis : spec.grid()) {
    points *= axis.values_size();
    if (points > 1'000'000) return 0;
  }
  return points;
}

void CheckSize(const ExperimentSpec& filled, Violations* violations) {
  if (filled.grid().empty()) {
    return violations->Add("grid",
                           "has no points; add an axis, such as {field: "
                           "training.per_device_train_batch_size, values: [8, 16]}");
  }
  const int64_t points = CountPoints(filled);
  if (points == 0 || points > kMaxPoints) {
    return violations->Add(
        "grid", absl::StrCat(points == 0 ? "too many" : absl::StrCat(points), " points; at most ",
                             kMaxPoints, ": split it into several experiments"));
  }
  const int64_t jobs = points * filled.kernels_size() * filled.runs();
  if (jobs > kMaxExperimentJobs) {
    violations->Add("runs", absl::StrCat(jobs, " jobs (", points, " points, ",
                                         filled.kernels_size(), " kernel settings, ", filled.runs(),
                                         " runs); at most ", kMaxExperimentJobs));
  }
}

std::string ShortMode(int mode) {
  return absl::AsciiStrToLower(
      ShortEnumName(*liger::v1::KernelMode_descriptor()->FindValueByNumber(mode)));
}

void AddPoints(const ExperimentSpec& spec, Experiment* experiment) {
  const int64_t points = CountPoints(spec);
  for (int64_t index = 0; index < points; ++index) {
    liger::v1::ExperimentPoint* point = experiment->add_points();
    int64_t stride = points;
    for (const auto& axis : spec.grid()) {
      stride /= axis.values_size();
      liger::v1::GridValue* value = point->add_values();
      value->set_field(axis.field());
      value->set_value(axis.values(static_cast<int>(index / stride % axis.values_size())));
    }
  }
}

// A label's value has at most 255 characters, the mark of a cut one included.
constexpr size_t kMaxPointLabel = 250;

std::string PointLabel(const liger::v1::ExperimentPoint& point) {
  const auto format = [](std::string* out, const liger::v1::GridValue& value) {
    absl::StrAppend(out, value.field().substr(value.field().rfind('.') + 1), " ", value.value());
  };
  return ToValidUtf8(absl::StrJoin(point.values(), ", ", format).substr(0, kMaxPointLabel));
}

}  // namespace

void FillExperimentDefaults(ExperimentSpec* spec) {
  if (spec->kernels().empty()) {
    spec->add_kernels(liger::v1::KERNEL_MODE_LIGER);
    spec->add_kernels(liger::v1::KERNEL_MODE_BASELINE);
  }
  if (!spec->has_runs()) spec->set_runs(1);
  if (!spec->has_max_concurrent_jobs()) spec->set_max_concurrent_jobs(1);
  if (!spec->has_min_success_share()) spec->set_min_success_share(1);
  if (!spec->has_reuse_results()) spec->set_reuse_results(true);
  if (!spec->has_keep_outputs()) spec->set_keep_outputs(false);
}

std::vector<Violation> ValidateExperiment(const ExperimentSpec& spec) {
  Violations violations;
  if (!IsName(spec.name()) || spec.name().size() > kMaxExperimentName) {
    violations.Add("name",
                   absl::StrCat("must have 1 to ", kMaxExperimentName,
                                " lower-case letters, digits and '-', not '", spec.name(), "'"));
  }
  if (IsUuid(spec.name())) {
    violations.Add("name", absl::StrCat("'", spec.name(),
                                        "' has the form of a uid, by which experiments are found "
                                        "too; choose another"));
  }
  if (!spec.has_job()) violations.Add("job", "must be set: what all jobs have in common");
  CheckTemplate(spec.job(), &violations);
  ExperimentSpec filled = spec;
  FillExperimentDefaults(&filled);
  CheckKernels(filled, &violations);
  if (filled.runs() < 1) violations.Add("runs", "must be at least 1");
  if (filled.max_concurrent_jobs() < 1) {
    violations.Add("max_concurrent_jobs", "must be at least 1");
  }
  if (!(filled.min_success_share() > 0 && filled.min_success_share() <= 1)) {
    violations.Add("min_success_share", "must be above 0 and at most 1");
  }
  for (int i = 0; i < spec.grid_size(); ++i) CheckAxis(spec, i, &violations);
  std::vector<Violation> found = violations.Take();
  if (!found.empty()) return found;
  CheckSize(filled, &violations);
  return violations.Take();
}

Experiment Expand(const ExperimentSpec& spec, const std::string& uid) {
  Experiment experiment;
  experiment.set_uid(uid);
  experiment.set_name(spec.name());
  *experiment.mutable_spec() = spec;
  AddPoints(spec, &experiment);
  const int modes = spec.kernels_size();
  for (int run = 0; run < spec.runs(); ++run) {
    for (int point = 0; point < experiment.points_size(); ++point) {
      for (int turn = 0; turn < modes; ++turn) {
        const int mode = spec.kernels((turn + run + point) % modes);
        ExperimentJob* job = experiment.add_jobs();
        job->set_point(point);
        job->set_run(run);
        job->set_kernels(static_cast<KernelMode>(mode));
        job->set_job_name(absl::StrFormat("%s-%03d-%s-%s", spec.name(), experiment.jobs_size(),
                                          ShortMode(mode), uid.substr(0, 4)));
      }
    }
  }
  return experiment;
}

absl::StatusOr<liger::v1::JobSpec> JobSpecOf(const Experiment& experiment,
                                             const ExperimentJob& job) {
  liger::v1::JobSpec spec = experiment.spec().job();
  for (const auto& value : experiment.points(job.point()).values()) {
    const absl::Status set = SetField(&spec, value.field(), value.value());
    if (!set.ok()) return set;
  }
  spec.mutable_kernels()->set_mode(job.kernels());
  spec.set_name(job.job_name());
  (*spec.mutable_labels())[kExperimentLabel] = experiment.name();
  if (!experiment.uid().empty()) (*spec.mutable_labels())[kExperimentUidLabel] = experiment.uid();
  const std::string point = PointLabel(experiment.points(job.point()));
  if (!point.empty()) (*spec.mutable_labels())[kPointLabel] = point;
  return spec;
}

std::string TurnOfJob(const std::string& job_name, int kernels) {
  // As Expand makes them: NAME-NUMBER-MODE-UID.
  const std::vector<std::string> parts = absl::StrSplit(job_name, '-');
  int number = 0;
  if (parts.size() < 4 || !absl::SimpleAtoi(parts[parts.size() - 3], &number) || number < 1) {
    return "";
  }
  const auto name = absl::MakeConstSpan(parts).first(parts.size() - 3);
  return absl::StrCat(absl::StrJoin(name, "-"), "-", parts.back(), " ", (number - 1) / kernels);
}

int TurnBegin(const Experiment& experiment, int index) {
  return index - index % experiment.spec().kernels_size();
}

}  // namespace liger::server
