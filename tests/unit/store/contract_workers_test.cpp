// Hello, loss and return of workers; metrics, logs and expiry.

#include <map>

#include "server/errors/errors.h"
#include "tests/unit/store/contract.h"

namespace liger::server::testing {
namespace {

using liger::v1::JobStatus;
using liger::worker::v1::Verdict;

class StoreWorkers : public StoreContract {
 protected:
  void SetUp() override {
    StoreContract::SetUp();
    AddWorker("w1", 1);
    AddWorker("w2", 1);
  }
  // w1 says hello again, owning these tasks.
  ReconcileWorker::Result Return(
      int64_t incarnation,
      const std::function<void(liger::worker::v1::Hello*)>& own = [](auto*) {}) {
    liger::worker::v1::Hello hello = NewHello("w1", incarnation, 1);
    own(&hello);
    return driver->Do(ReconcileWorker{hello});
  }
  std::string StateOfWorker(const std::string& worker_id) {
    return driver->Read<std::string>(
        [&](const ReadView& v) { return WorkerStateName(v.Worker(worker_id)->state); });
  }
};
LIGER_STORE_CONTRACT(StoreWorkers);

TEST_P(StoreWorkers, TheNewestIncarnationWins) {
  Return(5);
  const auto old = driver->Try(ReconcileWorker{NewHello("w1", 4, 1)});
  EXPECT_EQ(ReasonOf(old.status()), "STALE_INCARNATION");
  driver->Do(LoseWorker{"w1", 4});
  EXPECT_EQ(StateOfWorker("w1"), "READY") << "the loss of an older incarnation";
  driver->Do(LoseWorker{"w1", 5});
  EXPECT_EQ(StateOfWorker("w1"), "LOST");
  Return(5);
  EXPECT_EQ(StateOfWorker("w1"), "READY");
}

TEST_P(StoreWorkers, AReconnectAdoptsUnderTheSameEpoch) {
  const int64_t epoch = driver->RunJob("u", "w1");
  const auto result = Return(1, [&](auto* hello) { Own(hello, "u", epoch, "train", true, 9); });
  ASSERT_EQ(result.verdicts.size(), 1u);
  EXPECT_EQ(result.verdicts[0].action(), Verdict::ADOPT);
  EXPECT_EQ(result.verdicts[0].ack_seq(), 1) << "replay from here";
  EXPECT_EQ(driver->State("u"), JobStatus::RUNNING);
  EXPECT_EQ(driver->Job("u").status().epoch(), epoch);
  EXPECT_TRUE(result.restarts.empty());
}

TEST_P(StoreWorkers, ARestartedAgentsSpooledExitStillCounts) {
  const int64_t epoch = driver->RunJob("u", "w1");
  driver->PublishModel("u", "w1", epoch, 2);
  const auto result = Return(2, [&](auto* hello) { Own(hello, "u", epoch, "train", false, 3); });
  EXPECT_EQ(result.verdicts.at(0).action(), Verdict::ADOPT);
  EXPECT_EQ(result.verdicts.at(0).ack_seq(), 2);
  ASSERT_EQ(result.grants.size(), 1u) << "the first grant may have been lost";
  EXPECT_TRUE(result.grants[0].granted);
  driver->Exit("u", "w1", epoch, 3, Succeeded());
  EXPECT_EQ(driver->State("u"), JobStatus::SUCCEEDED);
}

TEST_P(StoreWorkers, ARestartedAgentWithoutItsTaskLosesTheAttempt) {
  driver->RunJob("u", "w1");
  Return(2);
  EXPECT_EQ(driver->State("u"), JobStatus::RECOVERING);
  EXPECT_EQ(driver->Job("u").status().restarts(), 1);
  EXPECT_EQ(driver->Occupied("w1"), 0) << "trainers die with their agent";
}

TEST_P(StoreWorkers, APrepareThatNeverArrivedCostsNothing) {
  driver->Submit("u");
  driver->PassCheck("u", "w1");
  driver->Place("u", "w1");
  Return(1);
  EXPECT_EQ(driver->State("u"), JobStatus::QUEUED);
  EXPECT_EQ(driver->Job("u").status().restarts(), 0);
  EXPECT_EQ(driver->Occupied("w1"), 0);
}

TEST_P(StoreWorkers, AStartThatMayBeLostIsRepeated) {
  driver->Submit("u");
  driver->PassCheck("u", "w1");
  const int64_t epoch = driver->Place("u", "w1");
  const auto result = Return(1, [&](auto* hello) { Own(hello, "u", epoch, "train", true); });
  EXPECT_EQ(result.verdicts.at(0).action(), Verdict::ADOPT);
  ASSERT_EQ(result.restarts.size(), 1u);
  EXPECT_EQ(result.restarts[0].epoch(), epoch);
  EXPECT_EQ(driver->State("u"), JobStatus::STARTING);
}

TEST_P(StoreWorkers, ALostWorkersDevicesStayOccupiedUntilItsExit) {
  const int64_t epoch = driver->RunJob("u", "w1");
  driver->Do(LoseWorker{"w1", 1});
  EXPECT_EQ(driver->State("u"), JobStatus::RECOVERING);
  EXPECT_EQ(driver->Occupied("w1"), 1);
  EXPECT_FALSE(driver->Try(StartAttempt{"u", {{"w1", {0}, {"w1-cpu-0"}}}}).ok());
  EXPECT_EQ(driver->Place("u", "w2"), epoch + 1);

  const auto result = Return(1, [&](auto* hello) { Own(hello, "u", epoch, "train", true, 1); });
  EXPECT_EQ(result.verdicts.at(0).action(), Verdict::STOP) << "a stale epoch";
  EXPECT_EQ(driver->Occupied("w1"), 1);
  driver->Exit("u", "w1", epoch, 2, {.outcome = AttemptState::kCancelled});
  EXPECT_EQ(driver->Occupied("w1"), 0);
  EXPECT_EQ(driver->State("u"), JobStatus::STARTING);
}

TEST_P(StoreWorkers, AWorkerThatReturnsInTimeGoesOn) {
  const int64_t epoch = driver->RunJob("u", "w1");
  driver->Do(LoseWorker{"w1", 1});
  const auto result = Return(1, [&](auto* hello) { Own(hello, "u", epoch, "train", true, 4); });
  EXPECT_EQ(result.verdicts.at(0).action(), Verdict::ADOPT);
  EXPECT_EQ(driver->State("u"), JobStatus::RUNNING);
  EXPECT_EQ(driver->Job("u").status().restarts(), 0);
  EXPECT_EQ(driver->Job("u").status().attempts_size(), 1);
  driver->PublishModel("u", "w1", epoch, 2);
  driver->Exit("u", "w1", epoch, 3, Succeeded());
  EXPECT_EQ(driver->State("u"), JobStatus::SUCCEEDED);
}

TEST_P(StoreWorkers, StaleSpoolsAreDroppedAndTheirDevicesFreed) {
  const int64_t epoch = driver->RunJob("u", "w1");
  driver->Do(LoseWorker{"w1", 1});
  driver->Place("u", "w2");
  const auto result = Return(2, [&](auto* hello) { Own(hello, "u", epoch, "train", false, 8); });
  EXPECT_EQ(result.verdicts.at(0).action(), Verdict::STOP);
  EXPECT_EQ(result.verdicts.at(0).ack_seq(), 8);
  EXPECT_EQ(driver->Occupied("w1"), 0);
}

TEST_P(StoreWorkers, UnknownTasksAreStopped) {
  const auto result = Return(1, [](auto* hello) {
    Own(hello, "never-heard-of", 3, "train", true, 5);
    Own(hello, "", 0, "some-dry-run", true, 1);
  });
  ASSERT_EQ(result.verdicts.size(), 2u);
  for (const Verdict& verdict : result.verdicts) EXPECT_EQ(verdict.action(), Verdict::STOP);
}

TEST_P(StoreWorkers, ACancelThatTheWorkerMissedIsRepeated) {
  const int64_t epoch = driver->RunJob("u", "w1");
  driver->Do(CancelJob{"default", "u"});
  const auto result = Return(1, [&](auto* hello) { Own(hello, "u", epoch, "train", true, 1); });
  EXPECT_EQ(result.verdicts.at(0).action(), Verdict::STOP);
  EXPECT_EQ(driver->State("u"), JobStatus::CANCELLING);
  Return(2);
  EXPECT_EQ(driver->State("u"), JobStatus::CANCELLED);
  EXPECT_EQ(driver->Occupied("w1"), 0);
}

TEST_P(StoreWorkers, ACommittedJobSurvivesTheLossOfItsWorker) {
  const int64_t epoch = driver->RunJob("u", "w1");
  driver->PublishModel("u", "w1", epoch, 2);
  driver->Do(LoseWorker{"w1", 1});
  EXPECT_EQ(driver->State("u"), JobStatus::SUCCEEDED);
  // The worker comes back and still has to make the output visible.
  const auto result = Return(2, [&](auto* hello) { Own(hello, "u", epoch, "train", false, 3); });
  EXPECT_EQ(result.grants.size(), 1u);
}

TEST_P(StoreWorkers, ChecksAreAdoptedOrMadeAgain) {
  driver->Submit("u");
  driver->Do(AssignCheck{"u", "t1", "w1"});
  const auto adopted = Return(1, [](auto* hello) { Own(hello, "u", 0, "t1", true); });
  EXPECT_EQ(adopted.verdicts.at(0).action(), Verdict::ADOPT);
  Return(2);  // without it
  EXPECT_EQ(driver->State("u"), JobStatus::VALIDATING);
  driver->Do(AssignCheck{"u", "t2", "w1"});
  driver->Do(LoseWorker{"w1", 2});
  driver->Do(AssignCheck{"u", "t3", "w2"});
  ReportTask report = Report("w2", "u", 0, "t3", 1);
  report.check_result.emplace();
  driver->Do(report);
  EXPECT_EQ(driver->State("u"), JobStatus::QUEUED);
}

TEST_P(StoreWorkers, OneMembersLossStopsTheGang) {
  CreateJob pair = NewJob("u", "pair");
  pair.job.resolved_spec.mutable_resources()->set_count(2);
  driver->Do(pair);
  driver->PassCheck("u", "w1");
  const int64_t epoch =
      driver->Do(StartAttempt{"u", {{"w1", {0}, {"w1-cpu-0"}}, {"w2", {1}, {"w2-cpu-0"}}}}).epoch;
  driver->Begin("u", "w1", epoch);
  driver->Begin("u", "w2", epoch);
  const LoseWorker::Result lost = driver->Do(LoseWorker{"w2", 1});
  ASSERT_EQ(lost.stops.size(), 1u);
  EXPECT_EQ(lost.stops[0].worker_id, "w1");
  EXPECT_EQ(driver->State("u"), JobStatus::RECOVERING);
  EXPECT_EQ(driver->Occupied(""), 2);
}

TEST_P(StoreWorkers, InventoryFollowsTheHeartbeats) {
  UpdateInventory update{.worker_id = "w1", .incarnation = 1};
  update.inventory.emplace_back().set_uri("llama");
  driver->Do(update);
  const auto uri = [&] {
    return driver->Read<std::string>(
        [](const ReadView& v) { return v.Worker("w1")->hello.inventory(0).uri(); });
  };
  EXPECT_EQ(uri(), "llama");
  update.incarnation = 0;
  update.inventory[0].set_uri("older news");
  driver->Do(update);
  EXPECT_EQ(uri(), "llama");
}

TEST_P(StoreWorkers, MetricsAndLogsUntilTheyExpire) {
  const int64_t epoch = driver->RunJob("u", "w1");
  driver->Do(AppendMetrics{{{"u", epoch, 1, 10, "a"}, {"u", epoch, 11, 20, "b"}}});
  driver->Do(AppendMetrics{{{"u", epoch, 11, 20, "repeated"}, {"u", epoch, 21, 30, "c"}}});
  driver->Do(PutLogFiles{{{"u", epoch, 0, "logs/u/1/0.log", 100}}});
  driver->Do(PutLogFiles{{{"u", epoch, 0, "logs/u/1/0.log", 250}}});
  driver->Read<int>([&](const ReadView& view) {
    EXPECT_EQ(view.MetricsFromStep("u", epoch), 1);
    EXPECT_EQ(view.MetricsFromStep("u", epoch + 1), 0);
    EXPECT_EQ(view.MetricsThroughStep("u", epoch), 30);
    EXPECT_EQ(view.MetricsThroughStep("u", epoch + 1), 0);
    EXPECT_EQ(view.MetricChunks("u", epoch, 0, 0).size(), 3u);
    const auto middle = view.MetricChunks("u", epoch, 12, 13);
    EXPECT_EQ(middle.size(), 1u);
    EXPECT_EQ(middle.at(0).blob, "b");
    EXPECT_EQ(view.LogFiles("u").at(0).through_offset, 250);
    return 0;
  });
  EXPECT_TRUE(driver->Do(ExpireRows{driver->now_us}).log_files.empty()) << "it still runs";
  driver->PublishModel("u", "w1", epoch, 2);
  driver->Exit("u", "w1", epoch, 3, Succeeded());
  EXPECT_EQ(driver->Do(ExpireRows{driver->now_us + 1}).log_files.size(), 1u);
  EXPECT_TRUE(driver->Do(ExpireRows{driver->now_us + 1}).log_files.empty());
  EXPECT_EQ(
      driver->Read<size_t>([&](const ReadView& v) { return v.MetricChunks("u", 1, 0, 0).size(); }),
      0u);
}

}  // namespace
}  // namespace liger::server::testing
