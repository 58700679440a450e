// CreateJob: validation, resolution, idempotency, dry runs.

#include <set>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "gtest/gtest.h"
#include "server/errors/errors.h"
#include "tests/unit/coordinator/cluster.h"

namespace liger::testing {
namespace {

using liger::server::ReasonOf;
using liger::v1::CreateJobRequest;
using liger::v1::JobStatus;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::vector<std::string> Fields(const absl::Status& status) {
  google::rpc::BadRequest bad_request;
  const auto payload = status.GetPayload("type.googleapis.com/google.rpc.BadRequest");
  if (payload.has_value()) bad_request.ParseFromString(std::string(*payload));
  std::vector<std::string> fields;
  for (const auto& violation : bad_request.field_violations()) fields.push_back(violation.field());
  return fields;
}

CreateJobRequest Request(const std::string& name) {
  CreateJobRequest request;
  *request.mutable_spec() = TinySpec(name);
  return request;
}

TEST(CreateJobTest, ResolvesAndStoresTheJob) {
  Cluster cluster;
  const auto response = cluster.Create(Request("tune"));
  ASSERT_TRUE(response.ok()) << response.status();
  const liger::v1::Job& job = response->job();
  EXPECT_FALSE(job.uid().empty());
  EXPECT_EQ(job.name(), "tune");
  EXPECT_EQ(job.tenant(), "default");
  EXPECT_EQ(job.status().state(), JobStatus::VALIDATING);
  EXPECT_FALSE(job.spec().training().has_learning_rate());
  EXPECT_DOUBLE_EQ(job.resolved_spec().training().learning_rate(), 2e-5);
  EXPECT_THAT(job.spec_hash(), HasSubstr("sha256:"));
  EXPECT_EQ(cluster.Get(job.uid())->name(), "tune");
  EXPECT_EQ(cluster.Get("tune")->uid(), job.uid());
}

TEST(CreateJobTest, NamesEveryFieldThatIsWrong) {
  Cluster cluster;
  EXPECT_THAT(Fields(cluster.Create(CreateJobRequest()).status()), ElementsAre("spec"));

  CreateJobRequest request = Request("tune");
  request.mutable_spec()->mutable_training()->set_learning_rate(-1);
  request.mutable_spec()->mutable_training()->set_max_length(1);
  const absl::Status status = cluster.Create(request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Fields(status), Contains("training.learning_rate"));
  EXPECT_THAT(Fields(status), Contains("training.max_length"));
}

TEST(CreateJobTest, UnknownNamesAreRefusedByField) {
  Cluster cluster;
  CreateJobRequest request = Request("tune");
  request.mutable_spec()->mutable_model()->set_name("lama3-8b");
  EXPECT_THAT(Fields(cluster.Create(request).status()), Contains("model.name"));
  request = Request("tune");
  request.mutable_spec()->mutable_dataset()->set_name("alpacca");
  EXPECT_THAT(Fields(cluster.Create(request).status()), Contains("dataset.name"));
}

TEST(CreateJobTest, AnnouncesTheDefaultDataset) {
  Cluster cluster;
  CreateJobRequest request = Request("tune");
  request.mutable_spec()->clear_dataset();
  const auto response = cluster.Create(request);
  ASSERT_TRUE(response.ok()) << response.status();
  const std::string chosen = response->job().resolved_spec().dataset().name();
  EXPECT_THAT(chosen, Not(IsEmpty()));
  EXPECT_THAT(response->notices(), Contains(HasSubstr(chosen)));
}

TEST(CreateJobTest, ANameIsUniqueUntilItsJobIsDeleted) {
  Cluster cluster;
  ASSERT_TRUE(cluster.Submit("tune").ok());
  const absl::Status taken = cluster.Submit("tune").status();
  EXPECT_EQ(taken.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(ReasonOf(taken), "NAME_TAKEN");
  EXPECT_THAT(taken.message(), HasSubstr("--name"));
  EXPECT_THAT(taken.message(), HasSubstr("liger-cli delete tune"));
  ASSERT_TRUE(cluster.Cancel("tune").ok());
  ASSERT_TRUE(cluster.Delete("tune").ok());
  EXPECT_TRUE(cluster.Submit("tune").ok());
}

TEST(CreateJobTest, OneRequestIdMakesOneJob) {
  Cluster cluster;
  CreateJobRequest request = Request("tune");
  request.set_request_id("abc");
  // All at once, as a client with an impatient retry does.
  std::vector<std::string> uids(8);
  std::vector<std::thread> threads;
  for (std::string& uid : uids) {
    threads.emplace_back([&cluster, &request, &uid] {
      const auto response = cluster.Create(request);
      EXPECT_TRUE(response.ok()) << response.status();
      if (response.ok()) uid = response->job().uid();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(std::set<std::string>(uids.begin(), uids.end()).size(), 1u);

  request.mutable_spec()->mutable_training()->set_max_steps(7);
  const absl::Status reused = cluster.Create(request).status();
  EXPECT_EQ(reused.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(ReasonOf(reused), "REQUEST_ID_REUSED");
}

// I1: acknowledged means stored.
TEST(CreateJobTest, AnAcknowledgedJobOutlivesTheCoordinator) {
  Cluster cluster;
  CreateJobRequest request = Request("tune");
  request.set_request_id("abc");
  const auto before = cluster.Create(request);
  ASSERT_TRUE(before.ok());
  cluster.StopCoordinator();
  cluster.StartCoordinator();
  EXPECT_EQ(cluster.Get("tune")->uid(), before->job().uid());
  EXPECT_EQ(cluster.Create(request)->job().uid(), before->job().uid());
}

TEST(ValidateOnlyTest, WithoutAWorkerItSaysWhatItSkipped) {
  Cluster cluster;
  CreateJobRequest request = Request("tune");
  request.set_validate_only(true);
  const auto response = cluster.Create(request);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_THAT(response->job().uid(), IsEmpty());
  EXPECT_TRUE(response->job().has_resolved_spec());
  EXPECT_THAT(response->checks_run(), Contains("spec"));
  EXPECT_THAT(response->checks_skipped(), Not(IsEmpty()));
  EXPECT_EQ(ReasonOf(cluster.Get("tune").status()), "JOB_NOT_FOUND");
}

TEST(ValidateOnlyTest, AWorkerChecksModelAndData) {
  Cluster cluster;
  auto worker = cluster.MakeWorker();
  ASSERT_TRUE(worker->Connect().ok());
  CreateJobRequest request = Request("tune");
  request.set_validate_only(true);
  const auto response = cluster.Create(request);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_THAT(response->checks_run(), Contains("model"));
  EXPECT_THAT(response->checks_run(), Contains("data"));
  EXPECT_EQ(ReasonOf(cluster.Get("tune").status()), "JOB_NOT_FOUND");
}

TEST(ValidateOnlyTest, WhatAWorkerFindsComesBackByField) {
  Cluster cluster;
  auto worker = cluster.MakeWorker({.auto_check = false});
  ASSERT_TRUE(worker->Connect().ok());
  CreateJobRequest request = Request("tune");
  request.set_validate_only(true);
  absl::Status status;
  std::thread client([&] { status = cluster.Create(request).status(); });
  const auto start = worker->Expect(liger::worker::v1::CoordinatorMessage::kStart).start();
  EXPECT_GT(start.check_max_rows(), 0);
  liger::worker::v1::TaskEvent event;
  auto* violation = event.mutable_check_result()->add_violations();
  violation->set_field("dataset.uri");
  violation->set_message("row 17 is not JSON");
  worker->SendEvent(start.ref(), event);
  worker->SendExit(start.ref());
  client.join();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Fields(status), ElementsAre("dataset.uri"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("row 17"));
}

// A dry run that no worker answers, and the Start that it got.
class SilentCheck {
 public:
  explicit SilentCheck(Cluster* cluster) : worker_(cluster->MakeWorker({.auto_check = false})) {
    EXPECT_TRUE(worker_->Connect().ok());
    client_ = std::thread([this, cluster] {
      CreateJobRequest request = Request("tune");
      request.set_validate_only(true);
      liger::v1::CreateJobResponse response;
      status_ = cluster->api().CreateJob(&context_, request, &response);
    });
    start_ = worker_->Expect(liger::worker::v1::CoordinatorMessage::kStart).start();
  }
  grpc::Status Join() {
    client_.join();
    return status_;
  }
  FakeWorker& worker() { return *worker_; }
  grpc::ClientContext& context() { return context_; }
  const liger::worker::v1::Start& start() const { return start_; }

 private:
  std::unique_ptr<FakeWorker> worker_;
  grpc::ClientContext context_;
  grpc::Status status_;
  std::thread client_;
  liger::worker::v1::Start start_;
};

TEST(ValidateOnlyTest, ShutdownDoesNotWaitForTheCheck) {
  Cluster cluster([](Cluster::Options* o) { o->jobs.validate_timeout_seconds = 600; });
  SilentCheck check(&cluster);
  const absl::Time begin = absl::Now();
  cluster.coordinator().Shutdown();
  EXPECT_LT(absl::Now() - begin, absl::Seconds(5));
  EXPECT_EQ(check.Join().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST(ValidateOnlyTest, AClientThatGoesStopsItsCheck) {
  Cluster cluster([](Cluster::Options* o) { o->jobs.validate_timeout_seconds = 600; });
  SilentCheck check(&cluster);
  check.context().TryCancel();
  EXPECT_EQ(check.Join().error_code(), grpc::StatusCode::CANCELLED);
  const auto control =
      check.worker().Expect(liger::worker::v1::CoordinatorMessage::kControl).control();
  EXPECT_TRUE(control.command().has_stop());
  EXPECT_EQ(control.ref().task_id(), check.start().ref().task_id());
}

TEST(CreateJobTest, TwoJobsNeverShareAnOutput) {
  Cluster cluster;
  CreateJobRequest request = Request("one");
  request.mutable_spec()->mutable_output()->set_uri("models/tuned");
  ASSERT_TRUE(cluster.Create(request).ok());
  EXPECT_EQ(cluster.Get("one")->resolved_spec().output().uri(), "models/tuned");
  request.mutable_spec()->set_name("two");
  const absl::Status refused = cluster.Create(request).status();
  EXPECT_THAT(Fields(refused), ElementsAre("output.uri"));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("output.overwrite"));
  request.mutable_spec()->mutable_output()->set_overwrite(true);
  EXPECT_TRUE(cluster.Create(request).ok());
  // By default it is named after the job, so that it can be looked at first.
  ASSERT_TRUE(cluster.Submit("three").ok());
  EXPECT_EQ(cluster.Get("three")->resolved_spec().output().uri(), "three");
}

TEST(ValidatingTest, AJobWhoseCheckFindsSomethingFailsWithTheCause) {
  Cluster cluster;
  auto worker = cluster.MakeWorker({.auto_check = false});
  ASSERT_TRUE(worker->Connect().ok());
  ASSERT_TRUE(cluster.Submit("tune").ok());
  const auto start = worker->Expect(liger::worker::v1::CoordinatorMessage::kStart).start();
  liger::worker::v1::TaskEvent event;
  auto* violation = event.mutable_check_result()->add_violations();
  violation->set_field("dataset.uri");
  violation->set_message("row 17 is not JSON");
  worker->SendEvent(start.ref(), event);
  worker->SendExit(start.ref());
  const auto job = cluster.WaitFor("tune", JobStatus::FAILED);
  EXPECT_THAT(job.status().failure().message(), HasSubstr("row 17"));
}

TEST(ValidatingTest, WithoutAWorkerTheJobWaitsAndSaysWhy) {
  Cluster cluster;
  ASSERT_TRUE(cluster.Submit("tune").ok());
  const auto job = cluster.WaitUntil(
      "tune", [](const liger::v1::Job& j) { return j.status().reason() == "NoWorker"; });
  EXPECT_FALSE(job.status().message().empty());
  EXPECT_FALSE(job.status().action().empty());
}

}  // namespace
}  // namespace liger::testing
