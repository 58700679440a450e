// What workers report to a JobService.
#include "tests/unit/jobs/job_service_fixture.h"

namespace liger::server {
namespace {

using liger::v1::JobStatus;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

TEST_F(JobServiceTest, ProgressIsWrittenOnceASecondAndAcknowledged) {
  Hello("w");
  const std::string uid = Running();
  service->Tick();
  const int64_t before = Job(uid).revision();
  for (int i = 1; i <= 50; ++i) {
    auto event = Event(1 + i);
    auto* step = event.mutable_progress()->mutable_step();
    step->set_step(i);
    step->set_max_steps(100);
    step->set_tokens_total(i * 200);
    step->set_step_seconds(0.5);
    Send(event);
  }
  EXPECT_EQ(Job(uid).revision(), before) << "nothing written yet";
  clock.Advance(absl::Seconds(1));
  service->Tick();
  const liger::v1::Job job = Job(uid);
  EXPECT_EQ(job.revision(), before + 1);
  EXPECT_EQ(job.status().progress().step(), 50);
  EXPECT_DOUBLE_EQ(job.status().progress().mean_tokens_per_second(), 400);
  EXPECT_DOUBLE_EQ(job.status().progress().eta_seconds(), 25);
  EXPECT_EQ(fleet.acks.back(), 51);
  EXPECT_EQ(job.status().kernels_ran(0).op(), "rope");
}

TEST_F(JobServiceTest, PublishAndExitAreAnsweredAtOnce) {
  Hello("w");
  const std::string uid = Running();
  auto publish = Event(2);
  auto* saved = publish.mutable_publish_request()->mutable_saved();
  saved->set_publication_id("final");
  saved->set_kind("model");
  saved->set_manifest_digest("sha256:1");
  Send(publish);
  ASSERT_THAT(fleet.answers, SizeIs(1));
  EXPECT_TRUE(fleet.answers[0].granted);
  EXPECT_THAT(fleet.answers[0].output_uri, HasSubstr("file:///out/smollm2-135m-sft-"));
  auto exited = Event(3);
  exited.mutable_exited();
  Send(exited);
  EXPECT_EQ(Job(uid).status().state(), JobStatus::SUCCEEDED);
  EXPECT_EQ(fleet.acks.back(), 3);

  service->Delete("default", "user", uid, /*delete_output=*/true,
                  [](absl::StatusOr<DeleteJob::Result> result) { EXPECT_TRUE(result.ok()); });
  ASSERT_THAT(fleet.reclaimed, ElementsAre(HasSubstr("w file:///out/")));
  EXPECT_THAT(fleet.reclaimed[0], HasSubstr(" sha256:1"));
  // The worker may have been away: it is asked again until it answers.
  Hello("w");
  ASSERT_THAT(fleet.reclaimed, SizeIs(2));
  EXPECT_EQ(fleet.reclaimed[1], fleet.reclaimed[0]);
  service->OnReclaimed("w", {{"w", fleet.answers[0].output_uri, "sha256:1"}});
  Hello("w");
  EXPECT_THAT(fleet.reclaimed, SizeIs(2));
}

// An agent that saw the kernel end a trainer gives no advice.
TEST_F(JobServiceTest, MemoryThatRanOutIsAdvisedOnByTheJob) {
  Hello("w");
  const auto action = [this](liger::trainer::v1::Phase phase, const std::string& told) {
    const std::string uid = Running();
    auto entered = Event(2);
    entered.mutable_phase()->set_phase(phase);
    Send(entered);
    auto exited = Event(3);
    auto* failure = exited.mutable_exited()->mutable_failure();
    failure->set_class_(liger::v1::FAILURE_CLASS_OOM_HOST);
    failure->set_action(told);
    Send(exited);
    EXPECT_EQ(Job(uid).status().state(), JobStatus::FAILED);
    return Job(uid).status().failure().action();
  };
  EXPECT_THAT(action(liger::trainer::v1::PHASE_TRAINING, ""),
              AllOf(StartsWith("lower training.per_device_train_batch_size"),
                    EndsWith(" or set training.gradient_checkpointing")));
  EXPECT_THAT(action(liger::trainer::v1::PHASE_EVALUATING, ""),
              StartsWith("lower training.per_device_eval_batch_size"));
  EXPECT_THAT(action(liger::trainer::v1::PHASE_TOKENIZING, ""),
              StartsWith("write Parquet in smaller row groups, lower LIGER_DATA_MEMORY_MB"));
  EXPECT_EQ(action(liger::trainer::v1::PHASE_TRAINING, "as told"), "as told");
}

// The limit, 2 by default, leaves room for the newest ones, the best one and the
// one that is being published. What has no room is removed by its worker.
TEST_F(JobServiceTest, CheckpointsArePublishedAndRetired) {
  Hello("w");
  const std::string uid = Running();
  int64_t seq = 1;
  const auto publish = [&](int64_t step, const std::string& kind) {
    auto event = Event(++seq);
    auto* saved = event.mutable_publish_request()->mutable_saved();
    saved->set_publication_id(kind + std::to_string(step));
    saved->set_kind(kind);
    saved->set_step(step);
    saved->set_manifest_digest("sha256:" + std::to_string(step));
    Send(event);
  };
  publish(10, "checkpoint");
  ASSERT_THAT(fleet.answers, SizeIs(1));
  EXPECT_TRUE(fleet.answers[0].granted);
  EXPECT_THAT(fleet.answers[0].output_uri, HasSubstr("file:///out/smollm2-135m-sft-"));
  EXPECT_THAT(fleet.answers[0].output_uri, HasSubstr(".checkpoints/checkpoint-10"));
  EXPECT_EQ(Job(uid).status().output_uri(), "") << "that is the model's";
  publish(20, "best_checkpoint");
  publish(30, "checkpoint");
  EXPECT_THAT(fleet.reclaimed, IsEmpty());
  publish(40, "checkpoint");
  EXPECT_THAT(fleet.reclaimed, ElementsAre(HasSubstr("checkpoint-10 sha256:10")));
  service->OnReclaimed("w", {{"w", fleet.answers[0].output_uri, "sha256:10"}});
  publish(50, "checkpoint");
  EXPECT_THAT(fleet.reclaimed, SizeIs(1)) << "the best one stays";
  publish(60, "checkpoint");
  ASSERT_THAT(fleet.reclaimed, SizeIs(2));
  EXPECT_THAT(fleet.reclaimed[1], HasSubstr("checkpoint-30 sha256:30"));
  publish(70, "model");
  // The model is there, nothing more is written: 20, 50 and 60 stay.
  EXPECT_THAT(fleet.reclaimed.back(), HasSubstr("checkpoint-40 sha256:40"));
  publish(80, "metrics");
  EXPECT_EQ(fleet.answers.back().denied_reason, "UNKNOWN_KIND");
}

// A worker that tells what becomes of its publications has its checkpoints counted then.
TEST_F(JobServiceTest, CheckpointsAreRetiredWhenTheNextIsThere) {
  liger::worker::v1::Hello hello;
  hello.set_worker_id("w");
  hello.set_incarnation(1);
  hello.set_tells_publications(true);
  hello.set_output_root("/out");
  hello.add_devices()->set_uuid("cpu-0");
  hello.mutable_devices(0)->set_kind(liger::v1::DEVICE_KIND_CPU);
  for (const auto& [kind, uri] :
       {std::pair("dataset", "alpaca_en_demo.json"), std::pair("model", "smollm2-135m")}) {
    auto* item = hello.add_inventory();
    item->set_kind(kind);
    item->set_uri(uri);
  }
  Hello(hello);
  const std::string uid = Running();
  int64_t seq = 1;
  const auto publish = [&](int64_t step, const std::string& error) {
    auto request = Event(++seq);
    auto* saved = request.mutable_publish_request()->mutable_saved();
    saved->set_publication_id("checkpoint-" + std::to_string(step));
    saved->set_kind("checkpoint");
    saved->set_step(step);
    saved->set_manifest_digest("sha256:" + std::to_string(step));
    Send(request);
    EXPECT_TRUE(fleet.answers.back().granted);
    auto told = Event(++seq);
    told.mutable_publication()->set_publication_id(saved->publication_id());
    told.mutable_publication()->set_error(error);
    told.mutable_publication()->set_storage(!error.empty());
    Send(told);
  };
  publish(10, "");
  publish(20, "");
  publish(30, "cannot copy the result: No space left on device");
  publish(40, "cannot copy the result: No space left on device");
  EXPECT_THAT(fleet.reclaimed, IsEmpty());
  EXPECT_EQ(fleet.acks.back(), seq);
  ASSERT_THAT(Job(uid).status().warnings(), SizeIs(1));
  EXPECT_THAT(Job(uid).status().warnings(0).message(), HasSubstr("checkpoint of step 40"));
  publish(50, "");
  EXPECT_THAT(fleet.reclaimed, ElementsAre(HasSubstr("checkpoint-10 sha256:10")));
}

// On a disk that the two share the other one's checkpoints go as its own would.
TEST_F(JobServiceTest, CheckpointsOfAWorkerThatIsLostAreRetiredByTheOneThatGoesOn) {
  Hello("w");
  Running();
  Hello("w2");
  int64_t seq = 1;
  std::string worker = "w";
  const auto publish = [&](int64_t step) {
    auto event = Event(++seq);
    auto* saved = event.mutable_publish_request()->mutable_saved();
    saved->set_publication_id("checkpoint-" + std::to_string(step));
    saved->set_kind("checkpoint");
    saved->set_step(step);
    saved->set_manifest_digest("sha256:" + std::to_string(step));
    service->OnTaskEvent(worker, event);
    ASSERT_TRUE(fleet.answers.back().granted);
  };
  publish(10);
  publish(20);
  LoseWorker("w");
  service->Tick();
  ASSERT_EQ(fleet.starts.back().ref.epoch(), 2);
  ASSERT_EQ(fleet.starts.back().worker_id, "w2");
  worker = "w2";
  seq = 1;
  auto started = Event(1);
  started.mutable_started();
  service->OnTaskEvent("w2", started);
  publish(30);
  EXPECT_THAT(fleet.reclaimed, IsEmpty());
  publish(40);
  EXPECT_THAT(fleet.reclaimed,
              testing::UnorderedElementsAre(
                  AllOf(StartsWith("w file:///out/"), HasSubstr("checkpoint-10 sha256:10")),
                  AllOf(StartsWith("w2 file:///out/"), HasSubstr("checkpoint-10 sha256:10"))));
}

TEST_F(JobServiceTest, TheNextAttemptGoesOnFromTheNewestCheckpoint) {
  Hello("w");
  const std::string uid = Running();
  EXPECT_EQ(fleet.starts.back().resume_from, "");
  auto event = Event(2);
  auto* saved = event.mutable_publish_request()->mutable_saved();
  saved->set_publication_id("checkpoint-10");
  saved->set_kind("checkpoint");
  saved->set_step(10);
  saved->set_manifest_digest("sha256:10");
  Send(event);
  auto exited = Event(3);
  auto* rank = exited.mutable_exited()->add_local_ranks();
  rank->set_signal(9);
  Send(exited);
  service->Tick();
  ASSERT_EQ(fleet.starts.back().ref.epoch(), 2);
  EXPECT_THAT(fleet.starts.back().resume_from, testing::StartsWith("/out/smollm2-135m-sft-"));
  EXPECT_THAT(fleet.starts.back().resume_from, testing::EndsWith(".checkpoints/checkpoint-10"));

  // It publishes the same step again, and one of the first attempt comes late.
  auto started = Event(1);
  started.mutable_started();
  Send(started);
  auto again = event;
  *again.mutable_ref() = fleet.starts.back().ref;
  again.mutable_publish_request()->mutable_saved()->set_manifest_digest("sha256:11");
  Send(again);
  EXPECT_TRUE(fleet.answers.back().granted);
  const auto artifacts = *store->ReadAndWait<std::vector<ArtifactRow>>(
      [&](const ReadView& view) -> absl::StatusOr<std::vector<ArtifactRow>> {
        return view.Artifacts("default", uid);
      });
  ASSERT_THAT(artifacts, SizeIs(1));
  EXPECT_EQ(artifacts[0].digest, "sha256:11");
  EXPECT_THAT(fleet.reclaimed, IsEmpty()) << "it was replaced";
}

TEST_F(JobServiceTest, AnEventThatIsMissingEndsTheSession) {
  Hello("w");
  Running();
  auto late = Event(4);
  late.mutable_started();
  Send(late);
  EXPECT_THAT(fleet.disconnects, ElementsAre("w events 2 to 3 are missing"));
}

TEST_F(JobServiceTest, AnUnansweredRequestMayComeBeforeTheReplay) {
  Hello("w");
  const std::string uid = Running();
  auto publish = Event(2);
  auto* saved = publish.mutable_publish_request()->mutable_saved();
  saved->set_publication_id("final");
  saved->set_kind("model");
  saved->set_manifest_digest("sha256:1");
  Send(publish);
  auto warning = Event(3);
  warning.mutable_warning()->set_code("Late");
  Send(warning);
  clock.Advance(absl::Seconds(1));
  service->Tick();
  EXPECT_EQ(fleet.acks.back(), 3);
  liger::worker::v1::Hello hello;
  hello.set_worker_id("w");
  hello.set_incarnation(1);
  *hello.add_owned()->mutable_ref() = fleet.starts.back().ref;
  Hello(hello);
  Send(publish);  // its answer was lost
  auto exited = Event(4);
  exited.mutable_exited();
  Send(exited);
  EXPECT_THAT(fleet.disconnects, IsEmpty());
  EXPECT_EQ(Job(uid).status().state(), JobStatus::SUCCEEDED);
}

TEST_F(JobServiceTest, AHeartbeatThatListsWhatNobodyKnowsHasItStopped) {
  Hello("w");
  const std::string uid = Running();
  const liger::trainer::v1::Ref running = fleet.starts.back().ref;
  liger::trainer::v1::Ref stale = running;
  stale.set_epoch(running.epoch() + 1);
  liger::trainer::v1::Ref check;
  check.set_job_uid(uid);
  check.set_task_id("never heard of");
  liger::trainer::v1::Ref dry_run;
  dry_run.set_task_id("its own business");
  service->OnHeartbeat("w", {running, stale, check, dry_run});
  EXPECT_EQ(fleet.stops.size(), 2u);
  service->OnHeartbeat("w", {stale});
  EXPECT_EQ(fleet.stops.size(), 2u) << "not at every heartbeat";
  EXPECT_THAT(fleet.disconnects, IsEmpty());
}

TEST_F(JobServiceTest, HeartbeatsThatLackATaskForLongEndTheSession) {
  Hello("w");
  Running();
  const std::vector<liger::trainer::v1::Ref> all = {fleet.starts.back().ref};
  const auto beat_for = [&](int seconds, const std::vector<liger::trainer::v1::Ref>& tasks) {
    for (int i = 0; i < seconds; i += 2) {
      clock.Advance(absl::Seconds(2));
      service->OnHeartbeat("w", tasks);
    }
  };
  beat_for(300, all);
  beat_for(80, {});
  beat_for(20, all);
  beat_for(80, {});
  EXPECT_THAT(fleet.disconnects, IsEmpty()) << "it may be on its way";
  beat_for(40, {});
  EXPECT_EQ(fleet.disconnects.size(), 1u);
  EXPECT_THAT(fleet.stops, IsEmpty());
}

TEST_F(JobServiceTest, AReportThatCanNeverBeStoredEndsTheSession) {
  Hello("w");
  const std::string uid = Running();
  FailCommits(1, absl::InternalError("no transition"));
  auto exited = Event(2);
  exited.mutable_exited()->set_cancelled(true);
  Send(exited);
  EXPECT_THAT(fleet.disconnects, ElementsAre("w no transition"));
  EXPECT_EQ(Job(uid).status().state(), JobStatus::RUNNING);
  // The next session replays it.
  liger::worker::v1::Hello hello;
  hello.set_worker_id("w");
  hello.set_incarnation(1);
  auto* owned = hello.add_owned();
  *owned->mutable_ref() = fleet.starts.back().ref;
  owned->set_last_event_seq(2);
  Hello(hello);
  Send(exited);
  EXPECT_EQ(Job(uid).status().state(), JobStatus::RECOVERING);
}

TEST_F(JobServiceTest, AWorkerThatCameBackInTimeIsNotLost) {
  Hello("w");
  const std::string uid = Running();
  service->OnWorkerLost("w", 1);  // its Hello overtook this
  EXPECT_EQ(Job(uid).status().state(), JobStatus::RUNNING);
  EXPECT_THAT(fleet.disconnects, IsEmpty());
  // It comes while the loss is on its way to the store: it must say Hello again.
  fleet.connected.clear();
  int asked = 0;
  fleet.on_is_connected = [&] {
    if (++asked == 2) fleet.connected.insert("w");
  };
  service->OnWorkerLost("w", 1);
  EXPECT_THAT(fleet.disconnects, ElementsAre(HasSubstr("w ")));
}

}  // namespace
}  // namespace liger::server
