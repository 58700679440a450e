#include "server/jobs/worker_health.h"

#include <algorithm>
#include <string>
#include <vector>

#include "server/jobs/worker_fitness.h"
#include "tests/unit/jobs/job_service_fixture.h"

namespace liger::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;

constexpr int64_t kSecond = 1'000'000;

class WorkerHealthTest : public ::testing::Test {
 protected:
  // Of a job of its own.
  liger::worker::v1::TaskEvent Event(int task) {
    liger::worker::v1::TaskEvent event;
    event.mutable_ref()->set_job_uid(JobOf(task));
    event.mutable_ref()->set_epoch(task);
    return event;
  }
  liger::worker::v1::TaskEvent Died(int task) {
    liger::worker::v1::TaskEvent event = Event(task);
    event.mutable_exited()->mutable_failure()->set_class_(liger::v1::FAILURE_CLASS_INFRA);
    event.mutable_exited()->mutable_failure()->set_message("no libtorch");
    event.mutable_exited()->add_local_ranks();
    return event;
  }
  static std::string JobOf(int task) { return "job " + std::to_string(task); }
  void Die(int times) {
    for (int i = 0; i < times; ++i) health_.OnEvent("w", Died(++task_), now_);
  }
  // A task of the next job is sent there once it may be.
  void Probe(int64_t rest_us) {
    now_ += rest_us;
    ASSERT_THAT(health_.Probing(now_), ElementsAre("w"));
    health_.OnOffered("w", JobOf(task_ + 1), now_);
    EXPECT_THAT(health_.Probing(now_), IsEmpty()) << "one task";
    EXPECT_THAT(health_.Resting(now_), ElementsAre(Pair("w", HasSubstr("tries it now"))));
  }
  void AddAnother() { health_.OnHello(HelloOf(1, "other")); }
  liger::worker::v1::Hello HelloOf(int64_t incarnation, const std::string& worker_id = "w") {
    liger::worker::v1::Hello hello;
    hello.set_worker_id(worker_id);
    hello.set_incarnation(incarnation);
    return hello;
  }

  WorkerHealth health_;
  int64_t now_ = 1000 * kSecond;
  int task_ = 0;
};

TEST_F(WorkerHealthTest, ThreeFailuresInARowEndInARestThatGrows) {
  AddAnother();
  Die(2);
  EXPECT_THAT(health_.Resting(now_), IsEmpty());
  Die(1);
  EXPECT_THAT(health_.Resting(now_), ElementsAre(Pair("w", HasSubstr("no libtorch"))));
  EXPECT_THAT(health_.Probing(now_), IsEmpty());
  EXPECT_THAT(health_.Resting(now_ + WorkerHealth::kFirstRestUs), IsEmpty());
  Probe(WorkerHealth::kFirstRestUs);
  Die(1);
  EXPECT_THAT(health_.Resting(now_ + 2 * WorkerHealth::kFirstRestUs - 1),
              ElementsAre(Pair("w", HasSubstr("4 tasks"))));
  EXPECT_THAT(health_.Resting(now_),
              ElementsAre(Pair("w", HasSubstr("one task tries it after a pause of 60 s"))));
  for (int doublings = 1; doublings <= 40; ++doublings) {
    Probe(std::min(WorkerHealth::kFirstRestUs << std::min(doublings, 20),
                   WorkerHealth::kLongestRestUs));
    health_.OnRefused("w", JobOf(++task_), "full", now_);
  }
}

TEST_F(WorkerHealthTest, ManyThatFailAtOnceAreOneFailure) {
  Die(8);
  for (int i = 0; i < 40; ++i) health_.OnRefused("w", JobOf(++task_), "full", now_);
  EXPECT_THAT(health_.Resting(now_), ElementsAre(Pair("w", HasSubstr("3 tasks in a row"))));
  Probe(WorkerHealth::kFirstRestUs);
  task_ += 10;
  Die(5);  // sent before, and late
  EXPECT_THAT(health_.Probing(now_ + WorkerHealth::kProbeUs), ElementsAre("w"));
}

TEST_F(WorkerHealthTest, WhatIsSentBeforeThePauseIsKnownIsNoProbe) {
  Die(3);
  health_.OnOffered("w", JobOf(task_ + 1), now_);
  Die(1);
  EXPECT_THAT(health_.Resting(now_), ElementsAre(Pair("w", HasSubstr("3 tasks in a row"))));
  EXPECT_THAT(health_.Probing(now_ + WorkerHealth::kFirstRestUs), ElementsAre("w"));
}

TEST_F(WorkerHealthTest, OneJobThatFailsAgainAndAgainIsTheJobsDoing) {
  for (int i = 0; i < 10; ++i) health_.OnEvent("w", Died(1), now_);
  health_.OnEvent("w", Died(2), now_);
  EXPECT_THAT(health_.Resting(now_), IsEmpty());
  health_.OnEvent("w", Died(3), now_);
  EXPECT_THAT(health_.Resting(now_), ElementsAre(Pair("w", HasSubstr("12 tasks in a row"))));
}

TEST_F(WorkerHealthTest, AProbeThatFailedElsewhereTellsNothing) {
  Die(3);
  Probe(WorkerHealth::kFirstRestUs);
  health_.OnEvent("other", Died(task_ + 1), now_);
  Die(1);
  EXPECT_THAT(health_.Resting(now_), IsEmpty());
  Probe(0);
}

TEST_F(WorkerHealthTest, AJobThatFailsOnTwoWorkersCountsAgainstNeither) {
  Die(3);
  health_.OnEvent("other", Died(task_), now_);
  EXPECT_THAT(health_.Resting(now_), IsEmpty());
  EXPECT_THAT(health_.Probing(now_ + WorkerHealth::kLongestRestUs), IsEmpty());
  Die(2);  // with nothing of before
  EXPECT_THAT(health_.Resting(now_), IsEmpty());
  Die(1);
  EXPECT_THAT(health_.Resting(now_), SizeIs(1));
}

TEST_F(WorkerHealthTest, TheOnlyOneIsTriedOften) {
  Die(3);
  for (int i = 0; i < 5; ++i) {
    Probe(WorkerHealth::kFirstRestUs);
    Die(1);
  }
  Probe(WorkerHealth::kFirstRestUs);
}

TEST_F(WorkerHealthTest, AProbeThatIsGivenUpIsFollowedByAnother) {
  Die(3);
  Probe(WorkerHealth::kFirstRestUs);
  health_.OnGivenUp("w", JobOf(1));
  EXPECT_THAT(health_.Probing(now_), IsEmpty()) << "it was another one's";
  health_.OnGivenUp("w", JobOf(task_ + 1));
  EXPECT_THAT(health_.Probing(now_), ElementsAre("w"));
  Die(1);
  EXPECT_THAT(health_.Resting(now_), IsEmpty());
}

TEST_F(WorkerHealthTest, OneThatIsStartedAnewIsProbedAtOnce) {
  health_.OnHello(HelloOf(1));
  Die(3);
  health_.OnHello(HelloOf(1));
  EXPECT_THAT(health_.Probing(now_), IsEmpty()) << "it only connected again";
  health_.OnHello(HelloOf(2));
  EXPECT_THAT(health_.Resting(now_), IsEmpty());
  Probe(0);
  health_.OnHello(HelloOf(3));
  EXPECT_THAT(health_.Probing(now_), ElementsAre("w")) << "what was sent has ended with it";
}

TEST_F(WorkerHealthTest, ATaskThatBeginsShowsThatItIsWell) {
  Die(3);
  Probe(WorkerHealth::kFirstRestUs);
  auto started = Event(99);
  started.mutable_started();
  health_.OnEvent("w", started, now_);
  EXPECT_THAT(health_.Resting(now_), IsEmpty());
  EXPECT_THAT(health_.Probing(now_), IsEmpty());
  Die(2);
  health_.OnEvent("w", Died(99), now_);
  EXPECT_THAT(health_.Resting(now_), IsEmpty()) << "that one had begun";
}

TEST_F(WorkerHealthTest, WhatIsNotItsFaultDoesNotCount) {
  Die(2);
  auto other_rank = Died(50);
  other_rank.mutable_exited()->set_first_failed_rank(1);
  health_.OnEvent("w", other_rank, now_);
  auto data = Died(51);
  data.mutable_exited()->mutable_failure()->set_class_(liger::v1::FAILURE_CLASS_DATA);
  health_.OnEvent("w", data, now_);
  auto stopped = Died(52);
  stopped.mutable_exited()->set_worker_stopped(true);
  health_.OnEvent("w", stopped, now_);
  EXPECT_THAT(health_.Resting(now_), IsEmpty());
}

class WorkerFitnessTest : public JobServiceTest {
 protected:
  // The task that was started last dies before it begins.
  void Die() {
    auto died = Event(1);
    died.mutable_exited()->mutable_failure()->set_class_(liger::v1::FAILURE_CLASS_INFRA);
    died.mutable_exited()->mutable_failure()->set_message("no libtorch");
    service->OnTaskEvent(fleet.starts.back().worker_id, died);
  }
  // Jobs whose checks die before they begin on "a", the only worker.
  void KillJobs(int count) {
    for (int i = 0; i < count; ++i) {
      const std::string uid = Submit(Spec())->job.uid();
      Die();
      service->Cancel("default", "user", uid, "", [](auto) {});
      auto over = Event(1);  // the check was tried again
      over.mutable_exited()->set_cancelled(true);
      service->OnTaskEvent("a", over);
    }
  }
  static TaskRow LostCheck(int64_t created_us) {
    TaskRow task;
    task.worker_id = "a";
    task.state = TaskState::kLost;
    task.created_us = created_us;
    return task;
  }
  bool FailedLately(const std::vector<TaskRow>& checks, int64_t now_us) {
    return *store->ReadAndWait<bool>([&](const ReadView& view) -> absl::StatusOr<bool> {
      ScheduleSnapshot snapshot;
      JobRow job;
      job.uid = "job";
      FillFailures(view, job, checks, now_us, &snapshot);
      EXPECT_TRUE(snapshot.failed_on.contains({"job", "a"}));
      return snapshot.failed_lately.contains("job");
    });
  }
};

TEST_F(WorkerFitnessTest, EachFailureOnAWorkerDoublesTheWaitForAnother) {
  std::vector<TaskRow> checks = {LostCheck(1)};
  EXPECT_TRUE(FailedLately(checks, kFailedLatelyUs));
  EXPECT_FALSE(FailedLately(checks, kFailedLatelyUs + 1));
  EXPECT_FALSE(FailedLately(checks, 0)) << "somebody set the clock";
  checks.push_back(LostCheck(1));
  EXPECT_TRUE(FailedLately(checks, 2 * kFailedLatelyUs));
  EXPECT_FALSE(FailedLately(checks, 2 * kFailedLatelyUs + 1));
  checks.insert(checks.end(), 60, LostCheck(1));
  EXPECT_TRUE(FailedLately(checks, kLongestFailedLatelyUs));
  EXPECT_FALSE(FailedLately(checks, kLongestFailedLatelyUs + 1));
}

TEST_F(WorkerFitnessTest, OneSickWorkerHurtsNoJobWhileAnotherIsThere) {
  Hello("a");
  Hello("b");
  for (int i = 0; i < 2; ++i) {
    const std::string uid = Submit(Spec())->job.uid();
    ASSERT_EQ(fleet.starts.back().worker_id, "a");
    Die();  // the check
    EXPECT_EQ(fleet.starts.back().worker_id, "b");
    auto checked = Event(1);
    checked.mutable_check_result();
    service->OnTaskEvent("b", checked);
    EXPECT_EQ(Job(uid).status().state(), liger::v1::JobStatus::STARTING);
    EXPECT_EQ(fleet.starts.back().worker_id, "b") << "its check passed there";
    service->Cancel("default", "user", uid, "", [](auto) {});
    auto over = Event(1);
    over.mutable_exited()->set_cancelled(true);
    service->OnTaskEvent("b", over);
  }
}

TEST_F(WorkerFitnessTest, OneThatFailsAllGetsNothingForAWhile) {
  Hello("a");
  KillJobs(3);
  const size_t before = fleet.starts.size();
  const std::string uid = Submit(Spec())->job.uid();
  EXPECT_EQ(fleet.starts.size(), before);
  EXPECT_EQ(Job(uid).status().reason(), "WorkerUnfit");
  EXPECT_THAT(Job(uid).status().message(), HasSubstr("no libtorch"));
  EXPECT_THAT(service->RestingWorkers(), ElementsAre(Pair("a", HasSubstr("tasks in a row"))));
  clock.Step(absl::Hours(-1));  // somebody sets the clock
  clock.Advance(absl::Microseconds(WorkerHealth::kFirstRestUs));
  service->Tick();
  EXPECT_EQ(fleet.starts.size(), before + 1) << "one task as a probe";
}

TEST_F(WorkerFitnessTest, OneThatSaysThatItIsUnfitGetsNothing) {
  Hello("a");
  fleet.unfit["a"] = "its data folder is full";
  const std::string uid = Submit(Spec())->job.uid();
  EXPECT_THAT(fleet.starts, IsEmpty());
  EXPECT_EQ(Job(uid).status().reason(), "WorkerUnfit");
  fleet.unfit.clear();
  service->OnFitness("a", "");
  EXPECT_EQ(fleet.starts.size(), 1u);
}

TEST_F(WorkerFitnessTest, OneThatIsAwayIsAwayWhateverItSaidLast) {
  Hello("a");
  KillJobs(3);
  fleet.unfit["a"] = "its data folder is full";
  fleet.connected.clear();
  const std::string uid = Submit(Spec())->job.uid();
  EXPECT_EQ(Job(uid).status().reason(), "WorkerAway");
  EXPECT_EQ(Job(uid).status().message(), "waits for worker a to connect again");
}

TEST_F(WorkerFitnessTest, OneThatConnectsUnfitIsInTheLog) {
  liger::worker::v1::Hello hello;
  hello.set_worker_id("a");
  hello.set_incarnation(1);
  hello.set_unfit("its data folder is full");
  ::testing::internal::CaptureStderr();
  Hello(hello);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr("worker a takes no tasks: its data folder is full"));
}

TEST_F(WorkerFitnessTest, AClockThatIsSetBackHoldsUpNoProgress) {
  Hello("w");
  const std::string uid = Running();
  service->Tick();
  auto event = Event(2);
  event.mutable_progress()->mutable_step()->set_step(7);
  Send(event);
  clock.Step(absl::Hours(-1));
  clock.Advance(absl::Seconds(1));
  service->Tick();
  EXPECT_EQ(Job(uid).status().progress().step(), 7);
}

TEST_F(WorkerFitnessTest, ADryRunOfMoreDevicesThanThereAreSaysThatItWouldWait) {
  Hello("w");
  liger::v1::JobSpec spec = Spec();
  spec.mutable_resources()->set_device_kind(liger::v1::DEVICE_KIND_CPU);
  spec.mutable_resources()->set_count(4);
  absl::StatusOr<JobService::SubmitResult> result = absl::UnknownError("no answer");
  const JobService::SubmitRequest request{.tenant = "default", .actor = "user", .spec = spec};
  service->Validate(request, [&](auto answer) { result = std::move(answer); });
  auto checked = Event(1);
  checked.mutable_check_result();
  Send(checked);
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->warnings.size(), 1u);
  EXPECT_EQ(result->warnings[0].code(), "TooFewDevices");
  EXPECT_EQ(result->warnings[0].field(), "resources.count");
  EXPECT_THAT(result->warnings[0].message(), HasSubstr("the job would wait: "));
}

}  // namespace
}  // namespace liger::server
