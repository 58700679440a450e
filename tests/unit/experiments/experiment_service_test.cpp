#include "server/experiments/experiment_service.h"

#include <set>

#include "server/errors/errors.h"
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

TEST_F(ExperimentServiceTest, ADryRunMakesNothing) {
  absl::StatusOr<liger::v1::CreateExperimentResponse> out = absl::UnknownError("no answer");
  experiments->Validate({"default", "user", Grid(), ""},
                        [&](auto response) { out = std::move(response); });
  auto checked = Event(1);
  checked.mutable_check_result()->add_checks_run("model");
  Send(checked);
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_EQ(out->experiment().uid(), "");
  EXPECT_EQ(out->experiment().jobs_size(), 4);
  EXPECT_THAT(out->checks_run(), ::testing::Contains("model"));
  EXPECT_TRUE(Create(Grid()).ok());
  experiments->Validate({"default", "user", Grid(), ""},
                        [&](auto response) { out = std::move(response); });
  auto again = Event(1);
  again.mutable_check_result();
  Send(again);
  EXPECT_EQ(ReasonOf(out.status()), "EXPERIMENT_NAME_TAKEN");
}

}  // namespace
}  // namespace liger::server
