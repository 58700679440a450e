#include "server/experiments/plan.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/experiments/expand.h"

namespace liger::server {
namespace {

using liger::v1::Experiment;
using liger::v1::ExperimentJob;
using liger::v1::JobStatus;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// An experiment whose jobs a test moves on.
class PlanTest : public ::testing::Test {
 protected:
  void SetUp() override { Make(2, 1); }

  void Make(int points, int runs) {
    liger::v1::ExperimentSpec spec;
    spec.set_name("grid");
    spec.mutable_job()->mutable_sft();
    auto* axis = spec.add_grid();
    axis->set_field("training.max_length");
    for (int i = 0; i < points; ++i) axis->add_values(std::to_string(64 + i));
    spec.set_runs(runs);
    FillExperimentDefaults(&spec);
    facts = {};
    facts.row.uid = "e";
    facts.row.tenant = "default";
    facts.row.experiment = Expand(spec, "abcdefgh");
    facts.row.experiment.set_state(Experiment::RUNNING);
    for (auto& job : *facts.row.experiment.mutable_jobs()) job.set_spec_hash("hash");
  }
  liger::v1::ExperimentSpec& spec() { return *facts.row.experiment.mutable_spec(); }
  const ExperimentJob& job(int index) { return facts.row.experiment.jobs(index); }

  JobRow Row(int index, JobStatus::State state) {
    JobRow row;
    row.uid = "job-" + std::to_string(index);
    row.name = job(index).job_name();
    row.state = state;
    row.spec_hash = "hash";
    return row;
  }
  // As this experiment's own names are, so jobs of one turn ran side by side.
  EarlierResult Earlier(int index) { return {Row(index, JobStatus::SUCCEEDED), {"GPU-1"}}; }
  static EarlierResult Earlier(const std::string& name, const std::string& device) {
    EarlierResult earlier;
    earlier.job.uid = "uid-" + name;
    earlier.job.name = name;
    earlier.job.state = JobStatus::SUCCEEDED;
    earlier.device_uuids = {device};
    return earlier;
  }
  // Plans, keeps the plan as the store would, and returns it.
  ExperimentPlan Pass() {
    for (const int i : NextJobs(facts.row.experiment)) facts.earlier.try_emplace(i);
    ExperimentPlan plan = PlanExperiment(facts, 1'000'000);
    facts.row.experiment = plan.experiment;
    facts.earlier.clear();
    return plan;
  }
  void Set(int index, JobStatus::State state) { facts.jobs[index] = Row(index, state); }
  void RunOutOfMemory(int index) {
    JobRow row = Row(index, JobStatus::FAILED);
    row.status.mutable_failure()->set_class_(liger::v1::FAILURE_CLASS_OOM_DEVICE);
    row.status.set_message("the device ran out of memory");
    facts.jobs[index] = row;
  }
  void Fail(int index) {
    JobRow row = Row(index, JobStatus::FAILED);
    row.status.mutable_failure()->set_class_(liger::v1::FAILURE_CLASS_NAN);
    row.status.set_message("the loss is not finite");
    facts.jobs[index] = row;
  }

  ExperimentFacts facts;
};

TEST_F(PlanTest, OneAfterTheOther) {
  EXPECT_THAT(Pass().submit, ElementsAre(0));
  Set(0, JobStatus::RUNNING);
  EXPECT_THAT(Pass().submit, IsEmpty());
  EXPECT_EQ(job(0).outcome(), ExperimentJob::ACTIVE);
  Set(0, JobStatus::SUCCEEDED);
  EXPECT_THAT(Pass().submit, ElementsAre(1));
  Set(1, JobStatus::SUCCEEDED);
  EXPECT_THAT(Pass().submit, IsEmpty()) << "the next point may have earlier results";
  EXPECT_THAT(Pass().submit, ElementsAre(2)) << "the next point, when both have run";
}

TEST_F(PlanTest, SubmitsAgainWhatIsNotThereAndNothingTwice) {
  Pass();
  EXPECT_THAT(Pass().submit, ElementsAre(0)) << "a crash came before the job was made";
  Set(0, JobStatus::VALIDATING);
  EXPECT_THAT(Pass().submit, IsEmpty());
}

TEST_F(PlanTest, SeveralTurnsAtOnceButNeverBothOfOne) {
  Make(3, 1);
  spec().set_max_concurrent_jobs(2);
  EXPECT_THAT(Pass().submit, ElementsAre(0, 2));
  Set(0, JobStatus::RUNNING);
  Set(2, JobStatus::SUCCEEDED);
  EXPECT_THAT(Pass().submit, ElementsAre(3));
}

TEST_F(PlanTest, OutOfMemoryIsAResult) {
  for (int i = 0; i < 4; ++i) Set(i, JobStatus::SUCCEEDED);
  RunOutOfMemory(3);
  Pass();
  EXPECT_EQ(job(3).outcome(), ExperimentJob::OUT_OF_MEMORY);
  EXPECT_EQ(facts.row.experiment.state(), Experiment::SUCCEEDED);
  EXPECT_THAT(facts.row.experiment.message(), HasSubstr("1 of these by running out of memory"));
  EXPECT_GT(facts.row.experiment.end_time().seconds(), 0);
}

TEST_F(PlanTest, IsOverWhenTheLastStepsAreStored) {
  for (int i = 0; i < 4; ++i) Set(i, JobStatus::SUCCEEDED);
  facts.steps_pending = true;
  Pass();
  EXPECT_EQ(facts.row.experiment.state(), Experiment::RUNNING);
  facts.steps_pending = false;
  Pass();
  EXPECT_EQ(facts.row.experiment.state(), Experiment::SUCCEEDED);
}

TEST_F(PlanTest, TheShareThatMustGiveAResult) {
  for (int i = 0; i < 4; ++i) Set(i, JobStatus::SUCCEEDED);
  Fail(2);
  spec().set_min_success_share(0.75);
  Pass();
  EXPECT_EQ(facts.row.experiment.state(), Experiment::SUCCEEDED);

  Make(2, 1);
  for (int i = 0; i < 4; ++i) Set(i, JobStatus::SUCCEEDED);
  Fail(2);
  spec().set_min_success_share(0.8);
  Pass();
  EXPECT_EQ(facts.row.experiment.state(), Experiment::FAILED);
  EXPECT_THAT(facts.row.experiment.message(),
              HasSubstr("3 of 4 jobs gave a result; 4 are needed (min_success_share: 0.8)"));
  EXPECT_THAT(facts.row.experiment.message(), HasSubstr(job(2).job_name()));
  EXPECT_THAT(facts.row.experiment.message(), HasSubstr("the loss is not finite"));
  EXPECT_NE(facts.row.experiment.action(), "");
}

TEST_F(PlanTest, CancellingEndsWhatRunsAndStartsNothing) {
  Set(0, JobStatus::RUNNING);
  Pass();
  facts.row.experiment.set_state(Experiment::CANCELLING);
  ExperimentPlan plan = Pass();
  EXPECT_THAT(plan.cancel, ElementsAre("job-0"));
  EXPECT_THAT(plan.submit, IsEmpty());
  EXPECT_EQ(facts.row.experiment.state(), Experiment::CANCELLING);
  Set(0, JobStatus::CANCELLED);
  plan = Pass();
  EXPECT_EQ(facts.row.experiment.state(), Experiment::CANCELLED);
  for (const auto& one : facts.row.experiment.jobs()) {
    EXPECT_EQ(one.outcome(), ExperimentJob::CANCELLED);
  }
}

TEST_F(PlanTest, AJobMadeJustBeforeTheCancelIsFoundAndCancelled) {
  Pass();
  facts.row.experiment.set_state(Experiment::CANCELLING);
  Set(0, JobStatus::QUEUED);
  EXPECT_THAT(Pass().cancel, ElementsAre("job-0"));
}

TEST_F(PlanTest, AJobThatCannotBeSubmittedHasFailed) {
  facts.refused[0] = "no worker has the model";
  Pass();
  EXPECT_EQ(job(0).outcome(), ExperimentJob::FAILED);
  EXPECT_EQ(job(0).message(), "no worker has the model");
}

TEST_F(PlanTest, ResultsAreRecordedUnderTheKeyOfWhatRan) {
  Set(0, JobStatus::RUNNING);
  Pass();
  EXPECT_EQ(job(0).result_key(), "");
  Set(0, JobStatus::SUCCEEDED);
  facts.keys[0] = "key";
  const ExperimentPlan plan = Pass();
  ASSERT_EQ(plan.results.size(), 1u);
  EXPECT_EQ(plan.results[0].key, "key");
  EXPECT_EQ(plan.results[0].job_uid, "job-0");
  EXPECT_EQ(job(0).result_key(), "key");
  EXPECT_THAT(plan.reclaim_jobs, ElementsAre("job-0"));
}

TEST_F(PlanTest, LooksForEarlierResultsWhenThereIsRoom) {
  EXPECT_THAT(NextJobs(facts.row.experiment), ElementsAre(0, 1));
  Set(0, JobStatus::RUNNING);
  Pass();
  EXPECT_THAT(NextJobs(facts.row.experiment), IsEmpty());
  spec().set_max_concurrent_jobs(2);
  EXPECT_THAT(NextJobs(facts.row.experiment), ElementsAre(2, 3));
}

TEST_F(PlanTest, WhatIsNotKnownGivesNoKey) {
  Set(0, JobStatus::SUCCEEDED);
  facts.keys[0] = "";
  EXPECT_THAT(Pass().results, IsEmpty());
  EXPECT_EQ(job(0).result_key(), "-");
  Set(1, JobStatus::SUCCEEDED);
  facts.keys[1] = "key";
  facts.jobs[1].spec_hash = "of another release's defaults";
  EXPECT_THAT(Pass().results, IsEmpty());
  EXPECT_EQ(job(1).result_key(), "-");
}

TEST_F(PlanTest, KeepsOutputsWhenAsked) {
  spec().set_keep_outputs(true);
  Set(0, JobStatus::SUCCEEDED);
  EXPECT_THAT(Pass().reclaim_jobs, IsEmpty());
}

TEST_F(PlanTest, TakesEarlierResultsOfBothSidesOrOfNone) {
  facts.earlier[0] = {Earlier(0)};
  EXPECT_THAT(Pass().submit, ElementsAre(0)) << "the other side has none";

  Make(2, 1);
  facts.earlier[0] = {Earlier(0)};
  facts.earlier[1] = {Earlier(1)};
  const ExperimentPlan plan = Pass();
  EXPECT_TRUE(job(0).cached());
  EXPECT_TRUE(job(1).cached());
  EXPECT_EQ(job(1).job_uid(), "job-1");
  EXPECT_EQ(job(1).outcome(), ExperimentJob::SUCCEEDED);
  EXPECT_THAT(plan.submit, IsEmpty()) << "the next ones may have earlier results, too";
  EXPECT_THAT(Pass().submit, ElementsAre(2));

  Make(2, 1);
  spec().set_reuse_results(false);
  facts.earlier[0] = {Earlier(0)};
  facts.earlier[1] = {Earlier(1)};
  EXPECT_THAT(Pass().submit, ElementsAre(0)) << "asked to run again";
}

TEST_F(PlanTest, EachRunTakesAnEarlierJobOfItsOwn) {
  Make(1, 2);
  const std::vector<EarlierResult> liger = {Earlier(0)};
  const std::vector<EarlierResult> baseline = {Earlier(1)};
  // Run 0 is LIGER, BASELINE; run 1 the other way round.
  facts.earlier = {{0, liger}, {1, baseline}, {2, baseline}, {3, liger}};
  Pass();
  EXPECT_TRUE(job(0).cached() && job(1).cached());
  facts.earlier = {{2, baseline}, {3, liger}};
  EXPECT_THAT(Pass().submit, ElementsAre(2)) << "there was one earlier run of each only";
}

TEST_F(PlanTest, TakesOnlyWhatRanSideBySide) {
  const auto take = [&](const std::vector<EarlierResult>& first,
                        const std::vector<EarlierResult>& second) {
    Make(2, 1);
    facts.earlier[0] = first;
    facts.earlier[1] = second;
    Pass();
    return job(0).cached() && job(1).cached();
  };
  const EarlierResult liger = Earlier("old-003-liger-aaaa", "GPU-1");
  EXPECT_TRUE(take({liger}, {Earlier("old-004-baseline-aaaa", "GPU-1")}));
  EXPECT_FALSE(take({liger}, {Earlier("old-004-baseline-aaaa", "GPU-2")})) << "another device";
  EXPECT_FALSE(take({liger}, {Earlier("old-006-baseline-aaaa", "GPU-1")})) << "another run";
  EXPECT_FALSE(take({liger}, {Earlier("old-004-baseline-bbbb", "GPU-1")}))
      << "another experiment, later of that name";
  EXPECT_FALSE(take({liger}, {Earlier("base-004-baseline-aaaa", "GPU-1")}));
  EXPECT_FALSE(take({Earlier("mine", "GPU-1")}, {Earlier("yours", "GPU-1")}));

  EXPECT_TRUE(take({Earlier("new-001-liger-cccc", "GPU-1"), liger},
                   {Earlier("odd-002-baseline-dddd", "GPU-1"),
                    Earlier("old-004-baseline-aaaa", "GPU-1")}))
      << "the newest that is whole";
  EXPECT_EQ(job(0).job_uid(), "uid-old-003-liger-aaaa");
  EXPECT_EQ(job(1).job_uid(), "uid-old-004-baseline-aaaa");
}

TEST_F(PlanTest, WhatTheHostHadNoMemoryForIsRunAgain) {
  facts.keys[0] = "key";
  RunOutOfMemory(0);
  EXPECT_TRUE(IsReusable(facts.jobs[0]));
  facts.jobs[0].status.mutable_failure()->set_class_(liger::v1::FAILURE_CLASS_OOM_HOST);
  EXPECT_FALSE(IsReusable(facts.jobs[0]));
  const ExperimentPlan plan = Pass();
  EXPECT_EQ(job(0).outcome(), ExperimentJob::OUT_OF_MEMORY) << "a result here";
  EXPECT_THAT(plan.results, IsEmpty()) << "and none for later ones";
}

TEST_F(PlanTest, SaysWhichPausedJobItWaitsFor) {
  Pass();
  Set(0, JobStatus::RUNNING);
  Pass();
  EXPECT_EQ(facts.row.experiment.message(), "");
  Set(0, JobStatus::PAUSED);
  const ExperimentPlan plan = Pass();
  EXPECT_TRUE(plan.changed);
  EXPECT_THAT(plan.experiment.message(), HasSubstr("waited for: " + job(0).job_name()));
  EXPECT_EQ(plan.experiment.action(), "liger-cli resume " + job(0).job_name());
  EXPECT_THAT(plan.submit, IsEmpty()) << "it keeps its turn";
  EXPECT_FALSE(Pass().changed);
  Set(0, JobStatus::QUEUED);
  EXPECT_EQ(Pass().experiment.message(), "");
}

TEST_F(PlanTest, SaysThatItWaitsForAWorker) {
  facts.no_worker = true;
  const ExperimentPlan plan = PlanExperiment(facts, 1'000'000);
  EXPECT_THAT(plan.submit, IsEmpty());
  EXPECT_THAT(plan.experiment.message(), HasSubstr("waits for a worker"));
  facts.row.experiment = plan.experiment;
  EXPECT_FALSE(PlanExperiment(facts, 1'000'000).changed) << "said once";
  facts.no_worker = false;
  EXPECT_EQ(Pass().experiment.message(), "");
}

}  // namespace
}  // namespace liger::server
