// TailLogs.

#include <thread>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/api/status.h"
#include "server/errors/errors.h"
#include "server/logs/log_store.h"
#include "tests/unit/coordinator/cluster.h"

namespace liger::testing {
namespace {

using liger::server::FromGrpc;
using liger::server::LogStore;
using liger::server::ReasonOf;
using liger::v1::JobStatus;
using liger::v1::TailLogsRequest;
using liger::v1::TailLogsResponse;

class TailLogsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    worker_ = cluster_.MakeWorker();
    ASSERT_TRUE(worker_->Connect().ok());
    ASSERT_TRUE(cluster_.Submit("job").ok());
    ref_ = worker_->ExpectTrain().ref();
    worker_->SendStarted(ref_);
    cluster_.WaitFor("job", JobStatus::RUNNING);
  }

  // Ships the worker's log, as the agent does.
  void Log(const liger::trainer::v1::Ref& ref, int64_t offset, const std::string& data) {
    auto stub = FleetStub(cluster_.coordinator().worker_address());
    grpc::ClientContext context;
    auto stream = stub->Ship(&context);
    liger::worker::v1::Chunk chunk;
    *chunk.mutable_ref() = ref;
    chunk.mutable_log()->set_offset(offset);
    chunk.mutable_log()->set_data(data);
    ASSERT_TRUE(stream->Write(chunk));
    liger::worker::v1::ChunkAck ack;
    ASSERT_TRUE(stream->Read(&ack));
    EXPECT_EQ(ack.log_offset(), offset + static_cast<int64_t>(data.size()));
    stream->WritesDone();
    stream->Finish();
  }

  void EndWell() {
    worker_->SendPublish(ref_, "p1");
    worker_->Expect(liger::worker::v1::CoordinatorMessage::kPublishGranted);
    worker_->SendExit(ref_);
    cluster_.WaitFor("job", JobStatus::SUCCEEDED);
  }

  absl::Status Tail(const TailLogsRequest& request, std::string* text) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(10)));
    auto reader = cluster_.api().TailLogs(&context, request);
    TailLogsResponse response;
    while (reader->Read(&response)) {
      offsets_.push_back(response.offset());
      *text += response.data();
      if (!reads_.HasBeenNotified()) reads_.Notify();
    }
    return FromGrpc(reader->Finish());
  }

  Cluster cluster_;
  std::unique_ptr<FakeWorker> worker_;
  liger::trainer::v1::Ref ref_;
  std::vector<int64_t> offsets_;
  absl::Notification reads_;  // some Tail has got something
};

TEST_F(TailLogsTest, GivesWhatThereIs) {
  TailLogsRequest request;
  request.set_job("job");
  std::string text;
  EXPECT_TRUE(Tail(request, &text).ok());
  EXPECT_EQ(text, "");
  Log(ref_, 0, "one\ntwo\n");
  EXPECT_TRUE(Tail(request, &text).ok());
  EXPECT_EQ(text, "one\ntwo\n");
  request.set_tail_bytes(4);
  text.clear();
  EXPECT_TRUE(Tail(request, &text).ok());
  ASSERT_EQ(text, "two\n");
  EXPECT_EQ(offsets_.back(), 4);
}

TEST_F(TailLogsTest, ALongLogComesWhole) {
  std::string log;
  for (int i = 0; log.size() < 1'500'000; ++i) log += "line " + std::to_string(i) + "\n";
  for (size_t at = 0; at < log.size(); at += 500'000) Log(ref_, at, log.substr(at, 500'000));
  TailLogsRequest request;
  request.set_job("job");
  std::string text;
  EXPECT_TRUE(Tail(request, &text).ok());
  EXPECT_EQ(text, log);
}

TEST_F(TailLogsTest, FollowsUntilTheJobIsOver) {
  Log(ref_, 0, "one\n");
  TailLogsRequest request;
  request.set_job("job");
  request.set_follow(true);
  std::string text;
  absl::Status status;
  std::thread follower([&] { status = Tail(request, &text); });
  EXPECT_TRUE(reads_.WaitForNotificationWithTimeout(absl::Seconds(10)));
  Log(ref_, 4, "two\n");
  EndWell();
  // The last bytes come after the job's end, over the other stream.
  Log(ref_, 8, "three\n");
  follower.join();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(text, "one\ntwo\nthree\n");
}

TEST_F(TailLogsTest, TheLogOfAJobThatEndedJustNowIsWhole) {
  EndWell();
  TailLogsRequest request;
  request.set_job("job");
  std::string text;
  std::thread reader([&] { EXPECT_TRUE(Tail(request, &text).ok()); });
  absl::SleepFor(absl::Milliseconds(100));
  Log(ref_, 0, "one\n");
  reader.join();
  EXPECT_EQ(text, "one\n");
}

TEST_F(TailLogsTest, FollowsIntoTheNextAttempt) {
  Log(ref_, 0, "first\n");
  TailLogsRequest request;
  request.set_job("job");
  request.set_follow(true);
  std::string text;
  std::thread follower([&] { EXPECT_TRUE(Tail(request, &text).ok()); });
  EXPECT_TRUE(reads_.WaitForNotificationWithTimeout(absl::Seconds(10)));
  worker_->SendFailure(ref_, liger::v1::FAILURE_CLASS_INFRA, "killed");
  const auto second = worker_->ExpectTrain().ref();
  Log(second, 0, "second\n");
  worker_->Succeed(second);
  follower.join();
  EXPECT_EQ(text, "first\nsecond\n");

  // One attempt alone.
  request.set_follow(false);
  request.set_attempt(ref_.epoch());
  text.clear();
  EXPECT_TRUE(Tail(request, &text).ok());
  EXPECT_EQ(text, "first\n");
}

TEST_F(TailLogsTest, RefusesWhatItCannotFind) {
  TailLogsRequest request;
  std::string text;
  EXPECT_EQ(Tail(request, &text).code(), absl::StatusCode::kInvalidArgument);
  request.set_job("nobody");
  EXPECT_EQ(ReasonOf(Tail(request, &text)), "JOB_NOT_FOUND");
  request.set_job("job");
  request.set_attempt(99);
  EXPECT_EQ(ReasonOf(Tail(request, &text)), "ATTEMPT_NOT_FOUND");
  request.clear_attempt();
  request.set_rank(-1);
  EXPECT_EQ(Tail(request, &text).code(), absl::StatusCode::kInvalidArgument);
  request.set_rank(1);
  EXPECT_EQ(ReasonOf(Tail(request, &text)), "RANK_NOT_FOUND");
  EXPECT_EQ(Tail(request, &text).message(), "job 'job' has no rank 1; it has rank 0 only");
}

TEST_F(TailLogsTest, DeletingTheJobDeletesItsLogs) {
  Log(ref_, 0, "secret\n");
  const LogStore logs(cluster_.data_dir() + "/logs");
  const std::string uid = cluster_.Get("job")->uid();
  EXPECT_EQ(*logs.Size({uid, ref_.epoch(), 0}), 7);
  worker_->SendPublish(ref_, "p1");
  worker_->SendExit(ref_);
  cluster_.WaitFor("job", JobStatus::SUCCEEDED);
  ASSERT_TRUE(cluster_.Delete("job").ok());
  const absl::Time deadline = absl::Now() + absl::Seconds(5);
  while (*logs.Size({uid, ref_.epoch(), 0}) != 0 && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(10));
  }
  EXPECT_EQ(*logs.Size({uid, ref_.epoch(), 0}), 0);
}

}  // namespace
}  // namespace liger::testing
