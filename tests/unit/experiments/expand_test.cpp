#include "server/experiments/expand.h"

#include <map>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace liger::server {
namespace {

using liger::v1::Experiment;
using liger::v1::ExperimentSpec;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr auto kLiger = liger::v1::KERNEL_MODE_LIGER;
constexpr auto kBaseline = liger::v1::KERNEL_MODE_BASELINE;
constexpr char kBatch[] = "training.per_device_train_batch_size";

void AddAxis(ExperimentSpec* spec, const std::string& field,
             const std::vector<std::string>& values) {
  liger::v1::GridAxis* axis = spec->add_grid();
  axis->set_field(field);
  for (const std::string& value : values) axis->add_values(value);
}

ExperimentSpec Spec() {
  ExperimentSpec spec;
  spec.set_name("grid");
  spec.mutable_job()->mutable_model()->set_name("tiny");
  spec.mutable_job()->mutable_sft();
  AddAxis(&spec, kBatch, {"8", "16"});
  return spec;
}

Experiment Expanded(ExperimentSpec spec) {
  EXPECT_TRUE(ValidateExperiment(spec).empty());
  FillExperimentDefaults(&spec);
  return Expand(spec, "abcdefgh");
}

std::string Fields(const ExperimentSpec& spec) {
  std::string out;
  for (const auto& violation : ValidateExperiment(spec)) {
    out += violation.field() + ": " + violation.message() + "\n";
  }
  return out;
}

TEST(ExpandTest, TheKernelSettingsOfOnePointAndRunTakeTurnsNextToEachOther) {
  ExperimentSpec spec = Spec();
  spec.set_runs(2);
  const Experiment experiment = Expanded(spec);
  ASSERT_EQ(experiment.jobs_size(), 8);
  for (int i = 0; i < 8; i += 2) {
    EXPECT_EQ(experiment.jobs(i).point(), experiment.jobs(i + 1).point());
    EXPECT_EQ(experiment.jobs(i).run(), experiment.jobs(i + 1).run());
    EXPECT_NE(experiment.jobs(i).kernels(), experiment.jobs(i + 1).kernels());
    EXPECT_EQ(TurnBegin(experiment, i + 1), i);
  }
  std::vector<int> first;
  for (int i = 0; i < 8; i += 2) first.push_back(experiment.jobs(i).kernels());
  EXPECT_THAT(first, ElementsAre(kLiger, kBaseline, kBaseline, kLiger))
      << "who begins changes from run to run of a point, and from point to point";
}

TEST(ExpandTest, EveryPointKernelAndRunOnceWithANameOfItsOwn) {
  ExperimentSpec spec = Spec();
  AddAxis(&spec, "training.max_length", {"64", "128", "256"});
  spec.set_runs(3);
  const Experiment experiment = Expanded(spec);
  ASSERT_EQ(experiment.points_size(), 6);
  EXPECT_EQ(experiment.points(1).values(0).value(), "8");
  EXPECT_EQ(experiment.points(1).values(1).value(), "128") << "the last axis fastest";
  std::set<std::tuple<int, int, int>> seen;
  std::set<std::string> names;
  for (const auto& job : experiment.jobs()) {
    EXPECT_TRUE(seen.insert({job.point(), job.kernels(), job.run()}).second);
    EXPECT_TRUE(names.insert(job.job_name()).second);
  }
  EXPECT_EQ(seen.size(), 36u);
  EXPECT_EQ(experiment.jobs(0).job_name(), "grid-001-liger-abcd");
}

TEST(ExpandTest, AJobIsTheTemplateAtItsPoint) {
  const Experiment experiment = Expanded(Spec());
  const auto spec = JobSpecOf(experiment, experiment.jobs(3));
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->training().per_device_train_batch_size(), 16);
  EXPECT_EQ(spec->kernels().mode(), experiment.jobs(3).kernels());
  EXPECT_EQ(spec->labels().at("experiment"), "grid");
  EXPECT_EQ(spec->labels().at("point"), "per_device_train_batch_size 16");
  EXPECT_EQ(spec->model().name(), "tiny");
  EXPECT_EQ(spec->name(), experiment.jobs(3).job_name());
}

TEST(ExpandTest, EqualSpecsGiveEqualExperiments) {
  EXPECT_EQ(Expanded(Spec()).SerializeAsString(), Expanded(Spec()).SerializeAsString());
}

TEST(ValidateExperimentTest, AGridWithoutPointsOrWithTooMany) {
  ExperimentSpec spec = Spec();
  spec.clear_grid();
  EXPECT_THAT(Fields(spec), HasSubstr("grid: has no points"));
  spec = Spec();
  spec.mutable_grid(0)->clear_values();
  EXPECT_THAT(Fields(spec), HasSubstr("grid[0].values: is empty"));
  spec = Spec();
  std::vector<std::string> many;
  for (int i = 1; i <= 17; ++i) many.push_back(std::to_string(i));
  spec.clear_grid();
  AddAxis(&spec, kBatch, many);
  AddAxis(&spec, "training.max_length", {many.begin() + 1, many.end()});
  EXPECT_THAT(Fields(spec), HasSubstr("grid: 272 points; at most 256"));
  spec = Spec();
  spec.set_runs(1000);
  EXPECT_THAT(Fields(spec), HasSubstr("runs: 4000 jobs (2 points, 2 kernel settings, 1000 runs)"));
}

TEST(ValidateExperimentTest, AFieldThatDoesNotExistOrIsNotTheGrids) {
  ExperimentSpec spec = Spec();
  spec.mutable_grid(0)->set_field("training.batch_sise");
  EXPECT_THAT(Fields(spec), HasSubstr("grid[0].field: training.batch_sise"));
  for (const char* field :
       {"kernels.mode", "name", "output.uri", "labels.team", "resources.count"}) {
    spec.mutable_grid(0)->set_field(field);
    EXPECT_THAT(Fields(spec), HasSubstr(std::string("grid[0].field: '") + field)) << field;
  }
  spec = Spec();
  AddAxis(&spec, kBatch, {"32"});
  EXPECT_THAT(Fields(spec), HasSubstr("grid[1].field"));
  spec = Spec();
  spec.mutable_grid(0)->add_values("8");
  EXPECT_THAT(Fields(spec), HasSubstr("grid[0].values: '8' is given twice"));
  spec = Spec();
  spec.mutable_grid(0)->add_values("many");
  EXPECT_THAT(Fields(spec), HasSubstr("'many'"));
}

TEST(ValidateExperimentTest, WhatTheExperimentSetsItself) {
  ExperimentSpec spec = Spec();
  spec.mutable_job()->set_name("mine");
  spec.mutable_job()->mutable_output()->set_uri("mine");
  spec.mutable_job()->mutable_kernels()->set_mode(kLiger);
  (*spec.mutable_job()->mutable_labels())["experiment"] = "mine";
  (*spec.mutable_job()->mutable_labels())["experiment_uid"] = "mine";
  (*spec.mutable_job()->mutable_labels())["point"] = "mine";
  const std::string fields = Fields(spec);
  for (const char* field : {"job.name", "job.output", "job.kernels.mode", "job.labels.experiment",
                            "job.labels.experiment_uid", "job.labels.point"}) {
    EXPECT_THAT(fields, HasSubstr(field));
  }
}

TEST(ValidateExperimentTest, RangesOfItsOwnFields) {
  ExperimentSpec spec = Spec();
  spec.set_name("Not A Name");
  spec.set_runs(0);
  spec.set_max_concurrent_jobs(0);
  spec.set_min_success_share(1.5);
  spec.add_kernels(kLiger);
  spec.add_kernels(kLiger);
  const std::string fields = Fields(spec);
  for (const char* field :
       {"name:", "runs:", "max_concurrent_jobs:", "min_success_share:", "kernels:"}) {
    EXPECT_THAT(fields, HasSubstr(field));
  }
}

}  // namespace
}  // namespace liger::server
