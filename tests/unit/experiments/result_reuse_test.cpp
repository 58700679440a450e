// Which results of earlier experiments one takes, and which it computes again.
#include "tests/unit/experiments/experiment_service_fixture.h"

namespace liger::server {
namespace {

using liger::v1::Experiment;
using liger::v1::ExperimentJob;
using ::testing::HasSubstr;

class ResultReuseTest : public ExperimentServiceTest {};

TEST_F(ResultReuseTest, AFileThatWasJustEditedIsNotTheOneOfEarlierResults) {
  HelloFromAKnownBuild();
  EXPECT_EQ(CachedOfAll("first"), 0);
  EXPECT_EQ(CachedOfAll("again"), 4);
  // The coordinator has not heard of it when the experiment comes.
  data_digest = "sha256:edited";
  EXPECT_EQ(CachedOfAll("edited"), 0);
  EXPECT_EQ(CachedOfAll("edited-again"), 4);
  model_digest = "sha256:trained-on";
  EXPECT_EQ(CachedOfAll("model"), 0);
  data_digest = "sha256:old";
  model_digest = "sha256:model";
  EXPECT_EQ(CachedOfAll("as-it-was"), 4);
}

TEST_F(ResultReuseTest, AFileThatIsEditedWhileAJobRunsIsNotWhatItRead) {
  HelloFromAKnownBuild();
  const std::string uid = Create(Grid())->experiment().uid();
  edited_to = "sha256:edited";
  PlayAll(uid, liger::v1::FAILURE_CLASS_OOM_DEVICE);
  EXPECT_EQ(Row(uid).experiment.jobs(0).result_key(), "-");
  EXPECT_THAT(Row(uid).experiment.jobs(1).result_key(), HasSubstr("sha256:edited"));
  EXPECT_EQ(CachedOfAll("again"), 2) << "the turn that began after it";
}

TEST_F(ResultReuseTest, AFileThatIsEditedBeforeTheStartIsWhatItRead) {
  HelloFromAKnownBuild();
  const std::string uid = Create(Grid())->experiment().uid();
  Tick();
  Tick();
  Tick();  // the first job is submitted, by what was listed then
  data_digest = "sha256:edited";
  PlayAll(uid, liger::v1::FAILURE_CLASS_OOM_DEVICE);
  EXPECT_THAT(Row(uid).experiment.jobs(0).result_key(), HasSubstr("sha256:edited"));
  EXPECT_EQ(CachedOfAll("again"), 4);
  data_digest = "sha256:old";
  EXPECT_EQ(CachedOfAll("old"), 0);
}

TEST_F(ResultReuseTest, ATrainerThatIsReplacedIsAnotherOne) {
  HelloFromAKnownBuild();
  const std::string uid = Create(Grid())->experiment().uid();
  rebuilt_to = "sha256:rebuilt";  // and the agent goes on with the same Hello
  PlayAll(uid, liger::v1::FAILURE_CLASS_OOM_DEVICE);
  EXPECT_EQ(Row(uid).experiment.jobs(0).result_key(), "-");
  EXPECT_EQ(CachedOfAll("again"), 2);
  code_digest = "sha256:another libtorch";
  EXPECT_EQ(CachedOfAll("libtorch"), 0);
}

TEST_F(ResultReuseTest, TextThatDependsOnTheDateIsNotTakenLater) {
  HelloFromAKnownBuild();
  reads_clock = true;
  EXPECT_EQ(CachedOfAll("first"), 0);
  EXPECT_EQ(CachedOfAll("again"), 0);
}

TEST_F(ResultReuseTest, AJobThatEndedUnseenIsTakenLater) {
  HelloFromAKnownBuild();
  const std::string uid = Create(Grid())->experiment().uid();
  Tick();
  Tick();
  const std::string job = Row(uid).experiment.jobs(0).job_uid();
  experiments.reset();  // a coordinator whose experiments stand still
  Begin(job);
  End(job, Inputs(), liger::v1::FAILURE_CLASS_OOM_DEVICE);
  Start();
  PlayAll(uid, liger::v1::FAILURE_CLASS_OOM_DEVICE);
  EXPECT_EQ(Row(uid).experiment.jobs(0).job_uid(), job);
  EXPECT_EQ(CachedOfAll("again"), 4);
}

TEST_F(ResultReuseTest, AWorkerOfAnotherReleaseIsAnotherOne) {
  HelloFromAKnownBuild();
  const std::string uid = Create(Grid())->experiment().uid();
  while (Row(uid).experiment.jobs(1).outcome() != ExperimentJob::OUT_OF_MEMORY) {
    Tick();
    Tick();
    const Experiment experiment = Row(uid).experiment;
    for (const ExperimentJob& job : experiment.jobs()) {
      if (job.outcome() == ExperimentJob::ACTIVE) {
        Play(job.job_uid(), liger::v1::FAILURE_CLASS_OOM_DEVICE);
      }
    }
    Tick();
  }
  // Between two of its turns.
  HelloFromAKnownBuild("w", "1.1+def");
  PlayAll(uid, liger::v1::FAILURE_CLASS_OOM_DEVICE);
  EXPECT_EQ(CachedOfAll("upgraded"), 2) << "what ran since";
  HelloFromAKnownBuild();
  EXPECT_EQ(CachedOfAll("downgraded"), 2) << "what ran before";
}

TEST_F(ResultReuseTest, WhatSeveralWorkersRanIsRunAgain) {
  HelloFromAKnownBuild("w");
  HelloFromAKnownBuild("v");
  const auto gang = [](const std::string& name) {
    liger::v1::ExperimentSpec spec = Grid(name);
    spec.mutable_job()->mutable_resources()->set_count(2);
    return spec;
  };
  for (const char* name : {"first", "again"}) {
    const std::string uid = Create(gang(name))->experiment().uid();
    PlayAll(uid, liger::v1::FAILURE_CLASS_OOM_DEVICE);
    EXPECT_EQ(Row(uid).state, Experiment::SUCCEEDED);
    const Experiment experiment = Row(uid).experiment;
    for (const ExperimentJob& job : experiment.jobs()) {
      EXPECT_EQ(Started(job.job_uid()).size(), 2u);
      EXPECT_FALSE(job.cached());
      EXPECT_EQ(job.result_key(), "-");
    }
  }
  // Jobs of one worker are found again beside it.
  EXPECT_EQ(CachedOfAll("one"), 0);
  EXPECT_EQ(CachedOfAll("one-again"), 4);
}

TEST_F(ResultReuseTest, TwoAtOnceTakeOnlyWholeTurnsThatAreOver) {
  HelloFromAKnownBuild("w");
  HelloFromAKnownBuild("v");
  const std::string first = Create(Grid("first"))->experiment().uid();
  for (int i = 0; i < 4; ++i) Tick();
  Play(Row(first).experiment.jobs(0).job_uid(), liger::v1::FAILURE_CLASS_OOM_DEVICE);
  Tick();
  ASSERT_EQ(Row(first).experiment.jobs(0).outcome(), ExperimentJob::OUT_OF_MEMORY);
  // One side of the first's first turn is known; the other runs.
  const std::string second = Create(Grid("second"))->experiment().uid();
  for (int i = 0; i < 4; ++i) Tick();
  EXPECT_EQ(Cached(second), 0);
  EXPECT_EQ(Row(second).experiment.jobs(0).outcome(), ExperimentJob::ACTIVE);
  PlayAll(first, liger::v1::FAILURE_CLASS_OOM_DEVICE);
  EXPECT_EQ(Row(first).state, Experiment::SUCCEEDED);
  // The turn that had begun goes on; the next one has become known.
  PlayAll(second, liger::v1::FAILURE_CLASS_OOM_DEVICE);
  EXPECT_EQ(Row(second).state, Experiment::SUCCEEDED);
  const Experiment done = Row(second).experiment;
  EXPECT_FALSE(done.jobs(0).cached());
  EXPECT_FALSE(done.jobs(1).cached());
  EXPECT_EQ(done.jobs(2).job_uid(), Row(first).experiment.jobs(2).job_uid());
  EXPECT_EQ(done.jobs(3).job_uid(), Row(first).experiment.jobs(3).job_uid());
}

TEST_F(ResultReuseTest, AWorkerThatDoesNotLookHasNothingToTake) {
  HelloFromAKnownBuild();
  EXPECT_EQ(CachedOfAll("first"), 0);
  answers = false;
  const std::string uid = Create(Grid("again"))->experiment().uid();
  for (int i = 0; i < 8; ++i) Tick();
  EXPECT_EQ(Row(uid).experiment.jobs(0).outcome(), ExperimentJob::PENDING) << "it waits";
  for (int i = 0; i < 5; ++i) Tick();
  EXPECT_EQ(Row(uid).experiment.jobs(0).outcome(), ExperimentJob::ACTIVE);
  EXPECT_EQ(Cached(uid), 0);
  // It is not waited for again.
  PlayAll(uid, liger::v1::FAILURE_CLASS_OOM_DEVICE);
  const std::string later = Create(Grid("later"))->experiment().uid();
  for (int i = 0; i < 4; ++i) Tick();
  EXPECT_EQ(Row(later).experiment.jobs(0).outcome(), ExperimentJob::ACTIVE);
}

TEST_F(ResultReuseTest, NobodyLooksWhereNothingIsTaken) {
  HelloFromAKnownBuild();
  liger::v1::ExperimentSpec spec = Grid();
  spec.set_reuse_results(false);
  const std::string uid = Create(spec)->experiment().uid();
  answers = false;
  Tick();
  Tick();
  Play(Row(uid).experiment.jobs(0).job_uid(), liger::v1::FAILURE_CLASS_OOM_DEVICE);
  Tick();
  EXPECT_TRUE(fleet.looks.empty());
  EXPECT_NE(Row(uid).experiment.jobs(0).result_key(), "-") << "a later one may";
}

TEST_F(ResultReuseTest, WaitsForAWorkerThatMayHaveTheResults) {
  HelloFromAKnownBuild();
  EXPECT_EQ(CachedOfAll("first"), 0);
  LoseWorker("w");
  const std::string uid = Create(Grid("again"))->experiment().uid();
  for (int i = 0; i < 5; ++i) Tick();
  const int64_t said = Row(uid).revision;
  for (int i = 0; i < 25; ++i) Tick();
  EXPECT_EQ(Row(uid).experiment.jobs(0).outcome(), ExperimentJob::PENDING);
  EXPECT_THAT(Row(uid).experiment.message(), HasSubstr("waits for a worker"));
  EXPECT_EQ(Row(uid).revision, said) << "once";
  HelloFromAKnownBuild();
  PlayAll(uid, liger::v1::FAILURE_CLASS_OOM_DEVICE);
  EXPECT_EQ(Cached(uid), 4);
}

}  // namespace
}  // namespace liger::server
