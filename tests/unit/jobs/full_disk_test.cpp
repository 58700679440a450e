// A JobService whose store cannot be written for a while.
#include "tests/unit/jobs/job_service_fixture.h"

namespace liger::server {
namespace {

using liger::v1::JobStatus;
using ::testing::IsEmpty;

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
  service->OnTaskRefused("w", fleet.starts.back().ref, "busy", false);
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

}  // namespace
}  // namespace liger::server
