#include "client/experiment_builder.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/errors.h"
#include "client/job_builder.h"
#include "common/spec/violations.h"

namespace liger::client {
namespace {

using liger::v1::ExperimentSpec;

// The values of an axis, in the place of the file's or as a further axis.
void SetAxis(const std::string& assignment, ExperimentSpec* spec) {
  const std::pair<std::string, std::string> parts =
      absl::StrSplit(assignment, absl::MaxSplits('=', 1));
  const std::vector<std::string> values = absl::StrSplit(parts.second, ',', absl::SkipEmpty());
  if (parts.first.empty() || values.empty()) {
    throw CliError(kInvalidInput,
                   absl::StrCat("--grid ", assignment, ": must be FIELD=VALUE,VALUE,..."));
  }
  liger::v1::GridAxis* axis = nullptr;
  for (auto& known : *spec->mutable_grid()) {
    if (known.field() == parts.first) axis = &known;
  }
  if (axis == nullptr) axis = spec->add_grid();
  axis->set_field(parts.first);
  axis->mutable_values()->Assign(values.begin(), values.end());
}

}  // namespace

ExperimentSpec BuildExperiment(const ExperimentFlags& flags, std::vector<std::string>* notes) {
  ExperimentSpec spec;
  ThrowIfError(ViolationsToStatus(
      ParseFileOf(flags.file, &spec, *liger::v1::JobSpec::descriptor(), "submit")));
  if (!flags.name.empty()) spec.set_name(flags.name);
  if (flags.runs > 0) spec.set_runs(flags.runs);
  for (const std::string& grid : flags.grids) SetAxis(grid, &spec);
  for (const std::string& set : flags.sets) ApplySet(set, "--set", "", &spec);
  if (spec.has_job()) UseLocalPaths(spec.mutable_job(), notes);
  return spec;
}

}  // namespace liger::client
