#include "server/jobs/failure_policy.h"

#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/jobs/transitions.h"

namespace liger::server {
namespace {

using ::testing::HasSubstr;

TEST(ClassifyExit, OnlyLostInfrastructureIsRunAgain) {
  for (int value = 1; value <= liger::v1::FailureClass_MAX; ++value) {
    const auto failure_class = static_cast<liger::v1::FailureClass>(value);
    liger::worker::v1::Exited exited;
    exited.mutable_failure()->set_class_(failure_class);
    const TaskExit exit = ClassifyExit(exited);
    EXPECT_EQ(exit.outcome, AttemptState::kFailed);
    EXPECT_EQ(exit.retry, failure_class == liger::v1::FAILURE_CLASS_INFRA ||
                              failure_class == liger::v1::FAILURE_CLASS_HANG);
    EXPECT_NE(exit.failure.message(), "") << value;
    const bool of_memory = failure_class == liger::v1::FAILURE_CLASS_OOM_HOST ||
                           failure_class == liger::v1::FAILURE_CLASS_OOM_DEVICE;
    EXPECT_EQ(exit.failure.action() == "", of_memory) << value;
  }
}

TEST(ClassifyExit, ASilentDeathIsInfrastructure) {
  liger::worker::v1::Exited exited;
  auto* rank = exited.add_local_ranks();
  rank->set_rank(3);
  rank->set_signal(9);
  exited.set_first_failed_rank(3);
  exited.set_log_tail("last words");
  const TaskExit exit = ClassifyExit(exited);
  EXPECT_TRUE(exit.retry);
  EXPECT_EQ(exit.failure.class_(), liger::v1::FAILURE_CLASS_INFRA);
  EXPECT_EQ(exit.failure.message(), "rank 3 was killed by signal 9");
  EXPECT_EQ(exit.failure.first_failed_rank(), 3);
  EXPECT_EQ(exit.failure.log_tail(), "last words");
}

TEST(ClassifyExit, EndsThatAreNoFailure) {
  liger::worker::v1::Exited exited;
  exited.add_local_ranks();
  EXPECT_EQ(ClassifyExit(exited).outcome, AttemptState::kSucceeded);
  exited.set_cancelled(true);
  exited.mutable_local_ranks(0)->set_signal(15);
  EXPECT_EQ(ClassifyExit(exited).outcome, AttemptState::kCancelled);
}

TEST(ClassifyExit, OnlyWhatIsRunAgainCanCostNoRestart) {
  liger::worker::v1::Exited exited;
  exited.set_worker_stopped(true);
  exited.mutable_failure()->set_class_(liger::v1::FAILURE_CLASS_INFRA);
  EXPECT_TRUE(ClassifyExit(exited).worker_stopped);
  exited.mutable_failure()->set_class_(liger::v1::FAILURE_CLASS_DATA);
  EXPECT_FALSE(ClassifyExit(exited).worker_stopped);
}

TEST(CheckFailure, NamesTheRowAndListsTheRest) {
  liger::trainer::v1::CheckResult result;
  for (int i = 0; i < 12; ++i) {
    auto* violation = result.add_violations();
    violation->set_field("dataset.uri");
    violation->set_file("rows.json");
    violation->set_row(17 + i);
    violation->set_message("not JSON");
  }
  const liger::v1::Failure failure = CheckFailure(result);
  EXPECT_EQ(failure.class_(), liger::v1::FAILURE_CLASS_DATA);
  EXPECT_EQ(failure.row(), 17);
  EXPECT_EQ(failure.file(), "rows.json");
  EXPECT_THAT(failure.message(), HasSubstr("rows.json"));
  EXPECT_THAT(failure.message(), HasSubstr("(and 2 more)"));

  liger::trainer::v1::CheckResult config;
  config.add_violations()->set_field("model.name");
  EXPECT_EQ(CheckFailure(config).class_(), liger::v1::FAILURE_CLASS_CONFIG);
}

// The table as a graph: every state can be reached from VALIDATING and reaches
// an end; ends have no way out; no transition stands twice.
TEST(Transitions, EveryJobCanEndAndEndsAbsorb) {
  std::set<std::pair<int, int>> seen;
  std::set<int> reached = {liger::v1::JobStatus::VALIDATING};
  std::set<int> ends;
  for (size_t round = 0; round < kTransitions.size(); ++round) {
    for (const Transition& transition : kTransitions) {
      if (round == 0) {
        EXPECT_TRUE(seen.insert({transition.from, transition.to}).second);
        EXPECT_FALSE(IsTerminal(transition.from));
      }
      if (reached.contains(transition.from)) reached.insert(transition.to);
      if (IsTerminal(transition.to) || ends.contains(transition.to)) ends.insert(transition.from);
    }
  }
  for (int state = 1; state <= liger::v1::JobStatus::State_MAX; ++state) {
    EXPECT_TRUE(reached.contains(state)) << state;
    EXPECT_TRUE(IsTerminal(static_cast<JobState>(state)) || ends.contains(state)) << state;
  }
}

TEST(AddNearDatasets, ToTheFailureOfAPathThatDoesNotExist) {
  liger::worker::v1::TaskEvent event;
  liger::v1::Failure& failure = *event.mutable_exited()->mutable_failure();
  failure.set_field("dataset.eval_uri");
  failure.set_file("alpaca-en-dem");
  failure.set_message("dataset.eval_uri: 'alpaca-en-dem' does not exist below /data");
  AddNearDatasets(Catalog::Default(), &event);
  EXPECT_THAT(failure.message(),
              HasSubstr("' does not exist below /data; the catalog has no dataset of that name; "
                        "near: alpaca-en-demo"));
  const auto unchanged = [&](const std::string& field, const std::string& message) {
    failure.set_field(field);
    failure.set_message(message);
    AddNearDatasets(Catalog::Default(), &event);
    EXPECT_EQ(failure.message(), message);
  };
  unchanged("dataset.uri", "'alpaca-en-dem' does not exist");
  unchanged("dataset.eval_uri", "alpaca-en-dem: row 3 is not JSON");
  failure.set_file("zzz");
  unchanged("dataset.eval_uri", "'zzz' does not exist");
}

}  // namespace
}  // namespace liger::server
