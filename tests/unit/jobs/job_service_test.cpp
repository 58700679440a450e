// What users ask of a JobService, and where it places jobs.
#include "tests/unit/jobs/job_service_fixture.h"

namespace liger::server {
namespace {

using liger::v1::JobStatus;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

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

TEST_F(JobServiceTest, MoreDevicesThanThereAreIsSaidAtOnce) {
  Hello("w");
  liger::v1::JobSpec spec = Spec();
  spec.mutable_resources()->set_count(2);
  EXPECT_THAT(Submit(spec)->notices,
              Contains(HasSubstr("2 CPU slots are asked for and the connected workers have 1")));
  Hello("w2");
  EXPECT_THAT(Submit(spec)->notices, Not(Contains(HasSubstr("are asked for"))));
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
  service->OnTaskRefused("w", fleet.starts[1].ref, "busy", false);
  EXPECT_THAT(fleet.starts, SizeIs(2));
  clock.Advance(absl::Seconds(2.1));
  service->Tick();
  ASSERT_THAT(fleet.starts, SizeIs(3));
  EXPECT_EQ(fleet.starts[2].ref.epoch(), 2);
}

TEST_F(JobServiceTest, ARefusalsReasonIsInTheJob) {
  Hello("w");
  const std::string uid = Starting();
  service->OnTaskRefused("w", fleet.starts.back().ref, "disk nearly full", false);
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

TEST_F(JobServiceTest, NothingReachesTheFleetAfterStop) {
  service->Stop();
  Hello("w");
  EXPECT_TRUE(Submit(Spec()).ok());
  EXPECT_THAT(fleet.starts, IsEmpty());
}

}  // namespace
}  // namespace liger::server
