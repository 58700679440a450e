#include "server/jobs/job_service.h"

#include <functional>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/store/store.h"

namespace liger::server {
namespace {

using liger::v1::JobStatus;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Notes what it is asked.
class FakeFleet : public FleetPort {
 public:
  bool IsConnected(const std::string& worker_id) const override {
    if (on_is_connected) on_is_connected();
    return connected.contains(worker_id);
  }
  bool TakesTasks(const std::string& worker_id) const override {
    return connected.contains(worker_id) && !draining.contains(worker_id);
  }
  void Disconnect(const std::string& worker_id, const std::string& reason) override {
    disconnects.push_back(worker_id + " " + reason);
  }
  void StartTask(const TaskStart& start) override { starts.push_back(start); }
  void StopTask(const TaskStop& stop, double grace, const std::string& reason) override {
    stops.push_back(stop.worker_id + " " + reason);
  }
  void AckEvents(const std::string&, const liger::trainer::v1::Ref&, int64_t seq) override {
    acks.push_back(seq);
  }
  void AnswerPublish(const PublishAnswer& answer) override { answers.push_back(answer); }
  void Reclaim(const std::string& worker_id, const std::vector<ReclaimRow>& outputs) override {
    for (const ReclaimRow& output : outputs) {
      reclaimed.push_back(worker_id + " " + output.uri + " " + output.digest);
    }
  }

  std::set<std::string> connected, draining;
  std::function<void()> on_is_connected;
  std::vector<TaskStart> starts;
  std::vector<std::string> stops, reclaimed, disconnects;
  std::vector<int64_t> acks;
  std::vector<PublishAnswer> answers;
};

class JobServiceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    options.clock = &clock;
    StoreOptions store_options{.synchronous = true};
    store_options.fail_commit = [this] {
      return failing_commits-- > 0 ? commit_error : absl::OkStatus();
    };
    store = NewMemoryStore(store_options);
    service = std::make_unique<JobService>(store.get(), &Catalog::Default(), options);
    ASSERT_TRUE(service->Start(&fleet).ok());
  }

  void Hello(const std::string& id, bool with_files = true) {
    liger::worker::v1::Hello hello;
    hello.set_worker_id(id);
    hello.set_incarnation(1);
    hello.set_model_root("/models");
    hello.set_dataset_root("/data");
    hello.set_output_root("/out");
    auto* device = hello.add_devices();
    device->set_uuid("cpu-0");
    device->set_kind(liger::v1::DEVICE_KIND_CPU);
    const auto add = [&hello](const char* kind, const char* uri) {
      auto* item = hello.add_inventory();
      item->set_kind(kind);
      item->set_uri(uri);
    };
    add("dataset", "alpaca_en_demo.json");
    if (with_files) add("model", "smollm2-135m");
    Hello(hello);
  }
  void Hello(const liger::worker::v1::Hello& hello) {
    service->OnHello(hello, [&](absl::StatusOr<HelloAnswer> answer) {
      EXPECT_TRUE(answer.ok());
      fleet.connected.insert(hello.worker_id());
    });
  }
  void LoseWorker(const std::string& id) {
    fleet.connected.erase(id);
    service->OnWorkerLost(id, 1);
  }
  // Whatever a broken disk says, and for how many commits.
  void FailCommits(int count, absl::Status error = absl::UnavailableError("disk full")) {
    commit_error = std::move(error);
    failing_commits = count;
  }
  static liger::v1::JobSpec Spec() {
    liger::v1::JobSpec spec;
    spec.mutable_model()->set_name("smollm2-135m");
    spec.mutable_sft();
    return spec;
  }
  absl::StatusOr<JobService::SubmitResult> Submit(const liger::v1::JobSpec& spec,
                                                  bool validate_only = false) {
    absl::StatusOr<JobService::SubmitResult> out = absl::UnknownError("no answer");
    JobService::SubmitRequest request{.tenant = "default", .actor = "user", .spec = spec};
    auto done = [&out](absl::StatusOr<JobService::SubmitResult> result) { out = result; };
    if (validate_only) {
      service->Validate(request, done);
    } else {
      service->Submit(request, done);
    }
    return out;
  }
  liger::v1::Job Job(const std::string& uid) {
    return *store->ReadAndWait<liger::v1::Job>(
        [&](const ReadView& view) -> absl::StatusOr<liger::v1::Job> {
          return ToProto(view, *view.Job(uid));
        });
  }
  liger::worker::v1::TaskEvent Event(int64_t seq) {
    liger::worker::v1::TaskEvent event;
    *event.mutable_ref() = fleet.starts.back().ref;
    event.set_seq(seq);
    return event;
  }
  void Send(const liger::worker::v1::TaskEvent& event) { service->OnTaskEvent("w", event); }
  // A job that trains on worker w; event 1 is known.
  std::string Running() {
    const std::string uid = Submit(Spec())->job.uid();
    auto checked = Event(1);
    checked.mutable_check_result();
    Send(checked);
    auto started = Event(1);
    started.mutable_started()->mutable_ready()->add_kernels_ran()->set_op("rope");
    Send(started);
    EXPECT_EQ(Job(uid).status().state(), JobStatus::RUNNING);
    return uid;
  }

  // An attempt that was placed and not started yet.
  std::string Starting() {
    const std::string uid = Submit(Spec())->job.uid();
    auto checked = Event(1);
    checked.mutable_check_result();
    Send(checked);
    EXPECT_EQ(Job(uid).status().state(), JobStatus::STARTING);
    return uid;
  }

  FakeClock clock;
  JobServiceOptions options;
  FakeFleet fleet;
  int failing_commits = 0;
  absl::Status commit_error;
  std::unique_ptr<Store> store;
  std::unique_ptr<JobService> service;
};

TEST_F(JobServiceTest, SubmitResolvesChecksAndPlaces) {
  Hello("w");
  const auto submitted = Submit(Spec());
  ASSERT_TRUE(submitted.ok()) << submitted.status();
  EXPECT_THAT(submitted->notices, Contains(HasSubstr("alpaca-en-demo, the default for sft")));
  EXPECT_THAT(submitted->notices, Contains(HasSubstr("CPU")));
  EXPECT_THAT(submitted->job.name(), HasSubstr("smollm2-135m-sft-"));
  EXPECT_EQ(submitted->job.resolved_spec().training().learning_rate(), 2e-5);
  EXPECT_THAT(submitted->job.spec_hash(), HasSubstr("sha256:"));

  ASSERT_THAT(fleet.starts, SizeIs(1));
  EXPECT_EQ(fleet.starts[0].kind, liger::trainer::v1::TASK_KIND_CHECK);
  EXPECT_THAT(fleet.starts[0].local_ranks, IsEmpty());
  auto checked = Event(1);
  checked.mutable_check_result();
  Send(checked);
  ASSERT_THAT(fleet.starts, SizeIs(2));
  EXPECT_EQ(fleet.starts[1].kind, liger::trainer::v1::TASK_KIND_TRAIN);
  EXPECT_EQ(fleet.starts[1].ref.epoch(), 1);
  EXPECT_EQ(fleet.starts[1].gang.world_size(), 1);
  EXPECT_EQ(fleet.starts[1].local_ranks.at(0).device_uuid(), "cpu-0");
  EXPECT_EQ(fleet.starts[1].spec_hash, submitted->job.spec_hash());
  EXPECT_EQ(Job(submitted->job.uid()).status().state(), JobStatus::STARTING);
}

TEST_F(JobServiceTest, BadSpecsAreRefusedWithEveryField) {
  liger::v1::JobSpec spec = Spec();
  spec.mutable_model()->set_name("smolm2-135m");
  spec.mutable_training()->set_learning_rate(-1);
  const absl::Status status = Submit(spec).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("near: smollm2-135m"));
  EXPECT_THAT(status.message(), HasSubstr("training.learning_rate"));
}

TEST_F(JobServiceTest, AnAbsentModelIsRefusedOnceTheInventoryIsKnown) {
  EXPECT_TRUE(Submit(Spec()).ok()) << "no worker yet: it waits";
  Hello("w", /*with_files=*/false);
  const absl::Status status = Submit(Spec()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("no worker has the model smollm2-135m"));
  EXPECT_THAT(status.message(), HasSubstr("/models/smollm2-135m"));
}

TEST_F(JobServiceTest, AJobWhoseModelStaysAbsentFailsWithTheCause) {
  const std::string uid = Submit(Spec())->job.uid();
  EXPECT_EQ(Job(uid).status().reason(), "NoWorker");
  Hello("w", /*with_files=*/false);
  EXPECT_EQ(Job(uid).status().reason(), "ModelAbsent");
  EXPECT_EQ(Job(uid).status().state(), JobStatus::VALIDATING);
  for (int i = 0; i < 40; ++i) {
    clock.Advance(absl::Seconds(1));
    service->Tick();
  }
  EXPECT_EQ(Job(uid).status().state(), JobStatus::FAILED);
  EXPECT_THAT(Job(uid).status().action(), HasSubstr("/models/smollm2-135m"));
}

TEST_F(JobServiceTest, AModelThatArrivesInTimeIsUsed) {
  const std::string uid = Submit(Spec())->job.uid();
  Hello("w", /*with_files=*/false);
  EXPECT_THAT(fleet.starts, IsEmpty());
  std::vector<liger::worker::v1::InventoryItem> inventory(2);
  inventory[0].set_kind("model");
  inventory[0].set_uri("smollm2-135m");
  inventory[1].set_kind("dataset");
  inventory[1].set_uri("alpaca_en_demo.json");
  service->OnInventory("w", 1, inventory);
  EXPECT_THAT(fleet.starts, SizeIs(1));
}

TEST_F(JobServiceTest, ADryRunMakesNothing) {
  auto no_worker = Submit(Spec(), true);
  ASSERT_TRUE(no_worker.ok());
  EXPECT_THAT(no_worker->checks_skipped, ElementsAre("model", "data"));

  Hello("w");
  absl::StatusOr<JobService::SubmitResult> out = absl::UnknownError("no answer");
  const auto validate = [&] {
    service->Validate({.tenant = "default", .actor = "user", .spec = Spec()},
                      [&out](absl::StatusOr<JobService::SubmitResult> result) { out = result; });
  };
  validate();
  ASSERT_THAT(fleet.starts, SizeIs(1));
  EXPECT_EQ(fleet.starts[0].check_max_rows, options.validate_max_rows);
  auto good = Event(1);
  good.mutable_check_result()->add_checks_run("model");
  Send(good);
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_THAT(out->checks_run, ElementsAre("spec", "catalog", "model"));
  EXPECT_EQ(out->job.uid(), "");

  validate();
  auto bad = Event(1);
  auto* violation = bad.mutable_check_result()->add_violations();
  violation->set_field("dataset.uri");
  violation->set_message("row 17 is not JSON");
  Send(bad);
  EXPECT_THAT(out.status().message(), HasSubstr("row 17 is not JSON"));

  validate();
  LoseWorker("w");
  EXPECT_EQ(out.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(store
                ->ReadAndWait<size_t>([](const ReadView& v) -> absl::StatusOr<size_t> {
                  return v.ActiveJobs().size();
                })
                .value(),
            0u);
}

TEST_F(JobServiceTest, ADryRunWithoutAnAnswerEnds) {
  Hello("w");
  absl::Status status;
  service->Validate({.tenant = "default", .actor = "user", .spec = Spec()},
                    [&](absl::StatusOr<JobService::SubmitResult> r) { status = r.status(); });
  clock.Advance(absl::Seconds(61));
  service->Tick();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(fleet.stops, ElementsAre("w TIMED_OUT"));
}

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

TEST_F(JobServiceTest, ACancelStopsTheTaskAndIsForcedWhenOverdue) {
  Hello("w");
  const std::string uid = Running();
  service->Cancel("default", "user", uid, "", [](absl::StatusOr<liger::v1::Job> job) {
    EXPECT_EQ(job->status().state(), JobStatus::CANCELLING);
  });
  EXPECT_THAT(fleet.stops, ElementsAre("w CANCELLED"));
  clock.Advance(absl::Seconds(8));
  service->Tick();
  EXPECT_EQ(Job(uid).status().state(), JobStatus::CANCELLING);
  clock.Advance(absl::Seconds(1.5));
  service->Tick();
  EXPECT_EQ(Job(uid).status().state(), JobStatus::CANCELLED);
}

TEST_F(JobServiceTest, ARefusalIsTriedAgainLater) {
  Hello("w");
  EXPECT_TRUE(Submit(Spec()).ok());
  auto checked = Event(1);
  checked.mutable_check_result();
  Send(checked);
  ASSERT_THAT(fleet.starts, SizeIs(2));
  service->OnTaskRefused("w", fleet.starts[1].ref, "busy");
  EXPECT_THAT(fleet.starts, SizeIs(2));
  clock.Advance(absl::Seconds(2.1));
  service->Tick();
  ASSERT_THAT(fleet.starts, SizeIs(3));
  EXPECT_EQ(fleet.starts[2].ref.epoch(), 2);
}

TEST_F(JobServiceTest, ARefusalsReasonIsInTheJob) {
  Hello("w");
  const std::string uid = Starting();
  service->OnTaskRefused("w", fleet.starts.back().ref, "disk nearly full");
  EXPECT_EQ(Job(uid).status().reason(), "WorkerRefused");
  EXPECT_EQ(Job(uid).status().message(),
            "worker w did not start it: disk nearly full; it will be tried again");
}

TEST_F(JobServiceTest, ARetryIsAnsweredAsBeforeWhateverTheFleetLost) {  // I2
  Hello("w");
  JobService::SubmitRequest request{.tenant = "default", .actor = "user", .spec = Spec()};
  request.request_id = "r";
  const auto submit = [&] {
    absl::StatusOr<JobService::SubmitResult> out = absl::UnknownError("no answer");
    service->Submit(request, [&out](absl::StatusOr<JobService::SubmitResult> r) { out = r; });
    return out;
  };
  const auto first = submit();
  ASSERT_TRUE(first.ok()) << first.status();
  service->OnInventory("w", 1, {});  // the model is gone
  clock.Advance(absl::Seconds(10));
  EXPECT_FALSE(Submit(Spec()).ok()) << "another request is refused";
  const auto again = submit();
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->job.uid(), first->job.uid());
  request.spec.mutable_training()->set_max_steps(7);
  EXPECT_EQ(submit().status().code(), absl::StatusCode::kAlreadyExists);
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

TEST_F(JobServiceTest, AReportThatTheDiskRefusedIsStoredLater) {
  Hello("w");
  const std::string uid = Running();
  FailCommits(2);
  auto exited = Event(2);
  exited.mutable_exited()->set_cancelled(true);
  Send(exited);
  EXPECT_THAT(fleet.disconnects, IsEmpty());
  for (int i = 0; i < 3; ++i) {
    clock.Advance(absl::Seconds(1));
    service->Tick();
  }
  EXPECT_NE(Job(uid).status().state(), JobStatus::RUNNING);
  EXPECT_EQ(fleet.acks.back(), 2);
}

TEST_F(JobServiceTest, ALossThatTheDiskRefusedIsNotForgotten) {
  Hello("w");
  const std::string uid = Running();
  FailCommits(2);
  LoseWorker("w");
  EXPECT_EQ(Job(uid).status().state(), JobStatus::RUNNING);
  service->Tick();
  service->Tick();
  EXPECT_EQ(Job(uid).status().state(), JobStatus::RECOVERING);
}

TEST_F(JobServiceTest, ALossThatTheDiskRefusedIsForgottenWhenTheWorkerIsBack) {
  Hello("w");
  const std::string uid = Running();
  FailCommits(1);
  LoseWorker("w");
  fleet.connected.insert("w");
  service->Tick();
  EXPECT_EQ(Job(uid).status().state(), JobStatus::RUNNING);
  EXPECT_THAT(fleet.disconnects, IsEmpty());
}

TEST_F(JobServiceTest, AnInventoryThatTheDiskRefusedIsStoredLater) {
  Hello("w", /*with_files=*/false);
  const auto item = [](const char* uri) {
    liger::worker::v1::InventoryItem item;
    item.set_kind("model");
    item.set_uri(uri);
    return item;
  };
  const auto stored = [&] {
    return *store->ReadAndWait<int>([](const ReadView& view) -> absl::StatusOr<int> {
      return view.Worker("w")->hello.inventory_size();
    });
  };
  ASSERT_EQ(stored(), 1);
  FailCommits(1);
  service->OnInventory("w", 1, {item("a"), item("b")});
  EXPECT_EQ(stored(), 1);
  service->Tick();
  EXPECT_EQ(stored(), 2);
  FailCommits(1);
  service->OnInventory("w", 1, {item("a")});
  service->OnInventory("w", 1, {item("a"), item("b"), item("c")});
  service->Tick();
  EXPECT_EQ(stored(), 3) << "a retry stores what is known by then";
}

TEST_F(JobServiceTest, WhileTheDiskIsFullOneInventoryAWorkerWaits) {
  Hello("w");
  service->Tick();  // what is due at the start
  constexpr int kMany = 1000;
  FailCommits(kMany);
  for (int i = 1; i <= 10; ++i) {
    liger::worker::v1::InventoryItem item;
    item.set_kind("model");
    item.set_uri(absl::StrCat("model-", i));
    service->OnInventory("w", 1, {item});
  }
  EXPECT_EQ(failing_commits, kMany - 1) << "the others wait for it";
  service->Tick();
  EXPECT_EQ(failing_commits, kMany - 2);
  failing_commits = 0;
  service->Tick();
  EXPECT_EQ(
      *store->ReadAndWait<std::string>([](const ReadView& view) -> absl::StatusOr<std::string> {
        return view.Worker("w")->hello.inventory(0).uri();
      }),
      "model-10");
}

TEST_F(JobServiceTest, ARefusalThatTheDiskRefusedIsNotForgotten) {
  Hello("w");
  const std::string uid = Starting();
  FailCommits(1);
  service->OnTaskRefused("w", fleet.starts.back().ref, "busy");
  EXPECT_EQ(Job(uid).status().state(), JobStatus::STARTING);
  service->Tick();
  EXPECT_EQ(Job(uid).status().state(), JobStatus::QUEUED);
}

TEST_F(JobServiceTest, AnOverdueCancelThatTheDiskRefusedIsNotForgotten) {
  Hello("w");
  const std::string uid = Running();
  service->Cancel("default", "user", uid, "", [](absl::StatusOr<liger::v1::Job>) {});
  clock.Advance(absl::Seconds(9.5));
  FailCommits(1);
  service->Tick();
  EXPECT_EQ(Job(uid).status().state(), JobStatus::CANCELLING);
  service->Tick();
  EXPECT_EQ(Job(uid).status().state(), JobStatus::CANCELLED);
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

TEST_F(JobServiceTest, NothingIsPlacedOnAWorkerThatIsAway) {
  Hello("w");
  fleet.connected.clear();
  const std::string uid = Submit(Spec())->job.uid();
  EXPECT_THAT(fleet.starts, IsEmpty());
  EXPECT_EQ(Job(uid).status().reason(), "WorkerAway");
  Hello("w");
  EXPECT_THAT(fleet.starts, SizeIs(1));
}

TEST_F(JobServiceTest, NothingIsPlacedOnAWorkerThatDrains) {
  Hello("w");
  fleet.draining.insert("w");
  ASSERT_TRUE(Submit(Spec()).ok());
  EXPECT_THAT(fleet.starts, IsEmpty());
  EXPECT_THAT(Submit(Spec(), /*validate_only=*/true)->checks_skipped, SizeIs(2));
  Hello("other");
  ASSERT_THAT(fleet.starts, SizeIs(1));
  EXPECT_EQ(fleet.starts[0].worker_id, "other");
}

TEST_F(JobServiceTest, AGpuThatIsGoneDecidesNothing) {
  liger::worker::v1::Hello hello;
  hello.set_worker_id("gpu");
  hello.set_incarnation(1);
  auto* device = hello.add_devices();
  device->set_uuid("gpu-0");
  device->set_kind(liger::v1::DEVICE_KIND_CUDA);
  Hello(hello);
  Hello("w");
  EXPECT_EQ(Submit(Spec())->job.resolved_spec().resources().device_kind(),
            liger::v1::DEVICE_KIND_CUDA);
  fleet.connected.erase("gpu");  // for a moment: its lease runs
  EXPECT_EQ(Submit(Spec())->job.resolved_spec().resources().device_kind(),
            liger::v1::DEVICE_KIND_CUDA);
  LoseWorker("gpu");
  EXPECT_EQ(Submit(Spec())->job.resolved_spec().resources().device_kind(),
            liger::v1::DEVICE_KIND_CPU);
}

class DryRunTest : public JobServiceTest {
 protected:
  void SetUp() override {
    JobServiceTest::SetUp();
    Hello("w");
  }
  void TearDown() override { service.reset(); }  // answers into `results`
  std::function<void()> Validate() {
    return service->Validate(
        {.tenant = "default", .actor = "user", .spec = Spec()},
        [this](absl::StatusOr<JobService::SubmitResult> r) { results.push_back(std::move(r)); });
  }
  std::vector<absl::StatusOr<JobService::SubmitResult>> results;
};

TEST_F(DryRunTest, WhatTheUserCanMendIsAboutTheRequest) {
  Validate();
  auto exited = Event(1);
  auto* failure = exited.mutable_exited()->mutable_failure();
  failure->set_class_(liger::v1::FAILURE_CLASS_CONFIG);
  failure->set_field("output.uri");
  failure->set_message("output.uri: 'x' exists already");
  failure->set_action("Choose another output.uri");
  Send(exited);
  ASSERT_THAT(results, SizeIs(1));
  EXPECT_EQ(results[0].status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(results[0].status().message(),
            "output.uri: 'x' exists already; choose another output.uri");

  Validate();
  exited.mutable_exited()->mutable_failure()->set_class_(liger::v1::FAILURE_CLASS_INFRA);
  *exited.mutable_ref() = fleet.starts.back().ref;
  Send(exited);
  EXPECT_EQ(results.at(1).status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(DryRunTest, TheyAreBoundedOnAWorkerAndTakeTheSlotsOfChecks) {
  for (int i = 0; i < 3; ++i) Validate();
  EXPECT_THAT(fleet.starts, SizeIs(2));
  ASSERT_THAT(results, SizeIs(1));
  EXPECT_THAT(results[0]->checks_skipped, ElementsAre("model", "data"));
  EXPECT_THAT(results[0]->notices, Contains(HasSubstr("not checked on a worker")));
  const std::string uid = Submit(Spec())->job.uid();
  EXPECT_EQ(Job(uid).status().reason(), "CheckSlotsBusy");
  auto checked = Event(1);
  checked.mutable_check_result();
  Send(checked);
  EXPECT_THAT(fleet.starts, SizeIs(3)) << "the job's check";
}

TEST_F(DryRunTest, TheyLeaveTheSlotsOfJobsChecksAlone) {
  ASSERT_TRUE(Submit(Spec()).ok());
  ASSERT_TRUE(Submit(Spec()).ok());
  ASSERT_THAT(fleet.starts, SizeIs(2)) << "both slots of the worker";
  Validate();
  EXPECT_THAT(fleet.starts, SizeIs(2));
  ASSERT_THAT(results, SizeIs(1));
  EXPECT_THAT(results[0]->checks_skipped, ElementsAre("model", "data"));
  auto checked = Event(1);
  checked.mutable_check_result();
  Send(checked);
  const size_t before = fleet.starts.size();
  Validate();
  EXPECT_EQ(fleet.starts.size(), before + 1) << "a slot is free again";
}

TEST_F(DryRunTest, AClientThatGoesTakesItsCheckAlong) {
  const auto give_up = Validate();
  give_up();
  ASSERT_THAT(results, SizeIs(1));
  EXPECT_EQ(results[0].status().code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(fleet.stops, ElementsAre("w CANCELLED"));
  give_up();
  EXPECT_THAT(fleet.stops, SizeIs(1));
}

TEST_F(DryRunTest, AWorkerThatComesBackWithoutItEndsIt) {
  Validate();
  liger::worker::v1::Hello hello;
  hello.set_worker_id("w");
  hello.set_incarnation(1);
  *hello.add_owned()->mutable_ref() = fleet.starts.back().ref;
  Hello(hello);
  EXPECT_THAT(results, IsEmpty()) << "it goes on";
  hello.clear_owned();
  Hello(hello);
  ASSERT_THAT(results, SizeIs(1));
  EXPECT_EQ(results[0].status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(DryRunTest, StopAnswersThoseUnderWayAndThoseToCome) {
  Validate();
  service->Stop();
  ASSERT_THAT(results, SizeIs(1));
  EXPECT_EQ(results[0].status().code(), absl::StatusCode::kUnavailable);
  Validate();
  EXPECT_THAT(results, SizeIs(2));
}

TEST_F(JobServiceTest, NothingReachesTheFleetAfterStop) {
  service->Stop();
  Hello("w");
  EXPECT_TRUE(Submit(Spec()).ok());
  EXPECT_THAT(fleet.starts, IsEmpty());
}

}  // namespace
}  // namespace liger::server
