#include "server/experiments/experiment_service.h"

#include <iterator>
#include <set>

#include "server/errors/errors.h"
#include "server/experiments/arm_checks.h"
#include "tests/unit/experiments/experiment_service_fixture.h"

namespace liger::server {
namespace {

using liger::v1::Experiment;
using liger::v1::ExperimentJob;
using liger::v1::JobStatus;
using ::testing::HasSubstr;

TEST_F(ExperimentServiceTest, RunsEveryJobAndSucceeds) {
  const auto created = Create(Grid());
  ASSERT_TRUE(created.ok()) << created.status();
  const std::string uid = created->experiment().uid();
  EXPECT_EQ(created->experiment().counts().jobs(), 4);
  PlayAll(uid);
  const ExperimentRow row = Row(uid);
  EXPECT_EQ(row.state, Experiment::SUCCEEDED) << row.experiment.DebugString();
  for (const ExperimentJob& job : row.experiment.jobs()) {
    EXPECT_EQ(job.outcome(), ExperimentJob::SUCCEEDED);
    const liger::v1::Job stored = Job(job.job_uid());
    EXPECT_EQ(stored.spec().labels().at("experiment"), "grid");
    EXPECT_EQ(stored.spec().labels().at("experiment_uid"), uid);
    EXPECT_EQ(stored.resolved_spec().kernels().mode(), job.kernels());
    EXPECT_EQ(stored.spec_hash(), job.spec_hash());
    EXPECT_EQ(stored.status().output_uri(), "") << "outputs are not kept";
  }
  // Asked for again until the worker says that it is done.
  EXPECT_EQ(std::set<std::string>(fleet.reclaimed.begin(), fleet.reclaimed.end()).size(), 4u);
}

TEST_F(ExperimentServiceTest, OutOfMemoryEverywhereIsStillAnAnswer) {
  const std::string uid = Create(Grid())->experiment().uid();
  PlayAll(uid, liger::v1::FAILURE_CLASS_OOM_DEVICE);
  EXPECT_EQ(Row(uid).state, Experiment::SUCCEEDED);
  EXPECT_EQ(Row(uid).experiment.jobs(2).outcome(), ExperimentJob::OUT_OF_MEMORY);
}

TEST_F(ExperimentServiceTest, ANewServiceGoesOnWhereTheOldOneWas) {
  const std::string uid = Create(Grid())->experiment().uid();
  Tick();
  Tick();
  Play(Row(uid).experiment.jobs(0).job_uid());
  Start();
  PlayAll(uid);
  EXPECT_EQ(Row(uid).state, Experiment::SUCCEEDED);
  const int jobs = *store->ReadAndWait<int>([](const ReadView& view) -> absl::StatusOr<int> {
    return static_cast<int>(view.ListJobs({"default", {}, 50, ""})->jobs.size());
  });
  EXPECT_EQ(jobs, 4) << "none twice";
}

TEST_F(ExperimentServiceTest, DeletedWhileItRunsItsJobIsCancelled) {
  const std::string uid = Create(Grid())->experiment().uid();
  Tick();
  Tick();
  const std::string job = Row(uid).experiment.jobs(0).job_uid();
  ASSERT_NE(job, "");
  absl::Status deleted = absl::UnknownError("no answer");
  experiments->Delete("default", "user", "grid",
                      [&](const auto& response) { deleted = response.status(); });
  EXPECT_TRUE(deleted.ok());
  Tick();
  Tick();
  EXPECT_EQ(Job(job).status().state(), JobStatus::CANCELLED);
  EXPECT_EQ(Row(uid).state, Experiment::CANCELLED);
  EXPECT_TRUE(Create(Grid()).ok()) << "the name is free";
}

TEST_F(ExperimentServiceTest, SaysWhatIsWrongWithItsJobsOnce) {
  liger::v1::ExperimentSpec spec = Grid();
  spec.mutable_job()->mutable_training()->set_learning_rate(-1);
  spec.mutable_grid(0)->set_values(1, "1");
  const absl::Status status = Create(spec).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  const std::vector<liger::v1::Violation> fields = ViolationsOf(status);
  ASSERT_EQ(fields.size(), 2u) << status;
  EXPECT_EQ(fields[0].field(), "job.training.learning_rate");
  EXPECT_EQ(fields[1].field(), "grid[0].values");
  EXPECT_THAT(fields[1].message(), HasSubstr("'1' of training.max_length"));
}

TEST_F(ExperimentServiceTest, PointsThatAreOneJobAreRefused) {
  liger::v1::ExperimentSpec spec = Grid();
  spec.mutable_grid(0)->set_field("training.learning_rate");
  spec.mutable_grid(0)->set_values(0, "1e-3");
  spec.mutable_grid(0)->set_values(1, "0.001");
  spec.set_runs(2);
  const absl::Status status = Create(spec).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  const std::vector<liger::v1::Violation> fields = ViolationsOf(status);
  ASSERT_EQ(fields.size(), 1u) << status;
  EXPECT_EQ(fields[0].field(), "grid");
  EXPECT_THAT(fields[0].message(), HasSubstr("'learning_rate 1e-3' and 'learning_rate 0.001'"));
  spec.mutable_grid(0)->set_values(1, "0.002");
  EXPECT_TRUE(Create(spec).ok());
}

class ExperimentDryRunTest : public ExperimentServiceTest {
 protected:
  void Validate(const liger::v1::ExperimentSpec& spec) {
    give_up_ = experiments->Validate({"default", "user", spec, ""},
                                     [this](auto response) { out_ = std::move(response); });
  }
  // The check that was begun last passes, or finds that field wrong.
  void Answer(const std::string& wrong_field = "", const std::string& message = "") {
    const auto& spec = fleet.starts.back().resolved_spec;
    checked_.push_back(std::to_string(spec.training().max_length()) + " " +
                       liger::v1::KernelMode_Name(spec.kernels().mode()).substr(12));
    auto event = Event(1);
    event.mutable_check_result()->add_checks_run("model");
    if (!wrong_field.empty()) {
      auto* violation = event.mutable_check_result()->add_violations();
      violation->set_field(wrong_field);
      violation->set_message(message);
    }
    Send(event);
  }

  std::vector<std::string> checked_;
  std::function<void()> give_up_;
  absl::StatusOr<liger::v1::CreateExperimentResponse> out_ = absl::UnknownError("no answer");
};

TEST_F(ExperimentDryRunTest, ChecksEachArmOnceAndMakesNothing) {
  liger::v1::ExperimentSpec spec = Grid();
  spec.set_runs(3);
  Validate(spec);
  for (int i = 0; i < 4; ++i) {
    ASSERT_EQ(out_.status().message(), "no answer") << "arm " << i << " is not checked";
    Answer();
  }
  ASSERT_TRUE(out_.ok()) << out_.status();
  EXPECT_THAT(checked_, ::testing::UnorderedElementsAre("64 LIGER", "64 BASELINE", "128 LIGER",
                                                        "128 BASELINE"));
  EXPECT_EQ(out_->experiment().uid(), "");
  EXPECT_EQ(out_->experiment().jobs_size(), 12);
  EXPECT_THAT(out_->checks_run(), ::testing::ElementsAre("spec", "catalog", "model"));
  EXPECT_EQ(out_->checks_skipped_size(), 0);
  EXPECT_THAT(out_->notices(), ::testing::Contains(HasSubstr("checked 4 of the 4 points")));
  ASSERT_TRUE(Create(Grid()).ok());
  Validate(Grid());
  for (int i = 0; i < 4; ++i) Answer();
  EXPECT_EQ(ReasonOf(out_.status()), "EXPERIMENT_NAME_TAKEN");
  EXPECT_THAT(out_.status().message(), HasSubstr("--name"));
  EXPECT_THAT(out_.status().message(), HasSubstr("liger-cli experiment delete grid"));
}

TEST_F(ExperimentDryRunTest, WhatTheArmsHaveWrongIsSaidInItsTerms) {
  Validate(Grid());
  Answer("dataset.name", "row 3 is not JSON");
  Answer("dataset.name", "row 3 is not JSON");
  Answer();
  Answer("training.max_length", "no row is so short");
  const std::vector<liger::v1::Violation> fields = ViolationsOf(out_.status());
  ASSERT_EQ(fields.size(), 2u) << out_.status();
  EXPECT_EQ(fields[0].field(), "job.dataset.name");
  EXPECT_EQ(fields[1].field(), "grid[0].values");
  EXPECT_THAT(fields[1].message(), HasSubstr("of training.max_length: no row is so short"));
}

TEST_F(ExperimentDryRunTest, ArmsForWhichThereIsNoTimeAreNamed) {
  Validate(Grid());
  Answer();
  const int64_t begun = std::ssize(fleet.starts);
  clock.Advance(absl::Seconds(kArmChecksSeconds));
  Answer();
  EXPECT_EQ(std::ssize(fleet.starts), begun);
  ASSERT_TRUE(out_.ok()) << out_.status();
  ASSERT_EQ(out_->checks_skipped_size(), 2);
  EXPECT_THAT(out_->checks_skipped(0), ::testing::StartsWith("model of max_length "));
  EXPECT_THAT(out_->notices(), ::testing::Contains(HasSubstr("checked 2 of the 4 points")));
}

TEST_F(ExperimentDryRunTest, AClientThatGoesStopsTheRest) {
  Validate(Grid());
  Answer();
  const int64_t begun = std::ssize(fleet.starts);
  give_up_();
  EXPECT_EQ(out_.status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(std::ssize(fleet.starts), begun);
}

}  // namespace
}  // namespace liger::server
