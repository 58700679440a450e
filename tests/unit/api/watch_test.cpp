// WatchJobs.

#include <set>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "gtest/gtest.h"
#include "server/api/status.h"
#include "server/errors/errors.h"
#include "tests/unit/coordinator/cluster.h"

namespace liger::testing {
namespace {

using liger::server::FromGrpc;
using liger::server::ReasonOf;
using liger::v1::JobStatus;
using liger::v1::WatchJobsRequest;
using liger::v1::WatchJobsResponse;

// One WatchJobs call.
class Watcher {
 public:
  Watcher(Cluster* cluster, const std::string& job, int64_t from_revision,
          absl::Duration deadline = absl::Seconds(10)) {
    WatchJobsRequest request;
    request.set_job(job);
    request.set_from_revision(from_revision);
    context_.set_deadline(absl::ToChronoTime(absl::Now() + deadline));
    reader_ = cluster->api().WatchJobs(&context_, request);
  }
  ~Watcher() {
    context_.TryCancel();
    WatchJobsResponse response;
    if (!finished_) {
      while (reader_->Read(&response)) {
      }
      reader_->Finish();
    }
  }
  WatchJobsResponse Next() {
    WatchJobsResponse response;
    EXPECT_TRUE(reader_->Read(&response));
    return response;
  }
  // Reads until the stream ends.
  absl::Status Drain(std::vector<WatchJobsResponse>* responses) {
    WatchJobsResponse response;
    while (reader_->Read(&response)) responses->push_back(response);
    finished_ = true;
    return FromGrpc(reader_->Finish());
  }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<WatchJobsResponse>> reader_;
  bool finished_ = false;
};

TEST(WatchTest, StartsWithTheCurrentStateAndThenFollows) {
  Cluster cluster;
  ASSERT_TRUE(cluster.Submit("job").ok());
  Watcher watcher(&cluster, "job", 0);
  WatchJobsResponse response = watcher.Next();
  EXPECT_EQ(response.job().name(), "job");
  EXPECT_FALSE(response.has_event());
  EXPECT_GT(response.revision(), 0);
  int64_t revision = response.revision();
  ASSERT_TRUE(cluster.Cancel("job").ok());
  do {
    response = watcher.Next();
    EXPECT_GT(response.revision(), revision);
    revision = response.revision();
  } while (response.job().status().state() != JobStatus::CANCELLED);
  EXPECT_EQ(response.event().to_state(), JobStatus::CANCELLED);
}

TEST(WatchTest, ResumesWithoutALossOrARepeat) {
  Cluster cluster;
  auto worker = cluster.MakeWorker();
  ASSERT_TRUE(worker->Connect().ok());
  for (const char* name : {"a", "b"}) {
    ASSERT_TRUE(cluster.Submit(name).ok());
    worker->Succeed(worker->ExpectTrain().ref());
    cluster.WaitFor(name, JobStatus::SUCCEEDED);
  }
  // All events of "b", in pieces: each watcher goes on where the last ended.
  std::vector<int64_t> seqs;
  int64_t revision = 1;
  const std::string uid = cluster.Get("b")->uid();
  while (true) {
    Watcher watcher(&cluster, "b", revision);
    const WatchJobsResponse response = watcher.Next();
    revision = response.revision();
    if (!response.has_event()) continue;
    EXPECT_EQ(response.event().job_uid(), uid);
    seqs.push_back(response.event().seq());
    if (response.event().to_state() == JobStatus::SUCCEEDED) break;
  }
  for (size_t i = 0; i < seqs.size(); ++i) EXPECT_EQ(seqs[i], static_cast<int64_t>(i) + 1);
}

TEST(WatchTest, AWatchOfAllJobsSeesNewOnes) {
  Cluster cluster;
  ASSERT_TRUE(cluster.Submit("old").ok());
  Watcher watcher(&cluster, "", 0);
  EXPECT_EQ(watcher.Next().job().name(), "old");
  ASSERT_TRUE(cluster.Submit("new").ok());
  WatchJobsResponse response;
  do {
    response = watcher.Next();
  } while (response.job().name() != "new");
  EXPECT_EQ(response.event().type(), "Created");
}

TEST(WatchTest, ListsMoreJobsThanAPage) {
  Cluster cluster;
  for (int i = 0; i < 230; ++i) ASSERT_TRUE(cluster.Submit("job-" + std::to_string(i)).ok());
  Watcher watcher(&cluster, "", 0);
  std::set<std::string> names;
  while (names.size() < 230) names.insert(watcher.Next().job().name());
}

TEST(WatchTest, ProgressComesWithoutAnEvent) {
  Cluster cluster;
  auto worker = cluster.MakeWorker();
  ASSERT_TRUE(worker->Connect().ok());
  ASSERT_TRUE(cluster.Submit("job").ok());
  const auto start = worker->ExpectTrain();
  worker->SendStarted(start.ref());
  cluster.WaitFor("job", JobStatus::RUNNING);
  Watcher watcher(&cluster, "job", 0);
  watcher.Next();
  worker->SendProgress(start.ref(), 42, 0.5);
  WatchJobsResponse response;
  do {
    response = watcher.Next();
  } while (response.job().status().progress().step() != 42);
  EXPECT_FALSE(response.has_event());
}

TEST(WatchTest, ASlowWatcherIsCutOffWithTheRevisionToResumeFrom) {
  Cluster cluster;
  Watcher slow(&cluster, "", 0, absl::Minutes(10));  // a sanitizer takes its time
  ASSERT_TRUE(cluster.Submit("first").ok());
  slow.Next();
  // Big jobs and no reads: neither gRPC's windows nor the coordinator may take
  // all of this.
  constexpr int kJobs = 700;
  int64_t last_revision = 0;
  for (int i = 0; i < kJobs; ++i) {
    liger::v1::CreateJobRequest request;
    *request.mutable_spec() = TinySpec("job-" + std::to_string(i));
    for (int k = 0; k < 60; ++k) {
      (*request.mutable_spec()->mutable_labels())["key" + std::to_string(k)] =
          std::string(250, 'x');
    }
    const auto response = cluster.Create(request);
    ASSERT_TRUE(response.ok()) << response.status();
    last_revision = response->job().revision();
  }
  std::vector<WatchJobsResponse> responses;
  const absl::Status status = slow.Drain(&responses);
  ASSERT_EQ(status.code(), absl::StatusCode::kOutOfRange) << status;
  ASSERT_EQ(ReasonOf(status), "WATCH_TOO_SLOW");
  EXPECT_LT(responses.size(), static_cast<size_t>(kJobs));

  google::rpc::ErrorInfo info;
  info.ParseFromString(std::string(*status.GetPayload("type.googleapis.com/google.rpc.ErrorInfo")));
  int64_t resume = 0;
  ASSERT_TRUE(absl::SimpleAtoi(info.metadata().at("resume_revision"), &resume));
  EXPECT_EQ(resume, responses.back().revision());

  // Nothing is missing between what was read and what a resumed watch gives.
  std::set<std::string> created;
  for (const WatchJobsResponse& response : responses) {
    if (response.event().type() == "Created") created.insert(response.job().name());
  }
  Watcher resumed(&cluster, "", resume, absl::Seconds(60));
  while (resume < last_revision) {
    const WatchJobsResponse response = resumed.Next();
    resume = response.revision();
    if (response.event().type() == "Created") created.insert(response.job().name());
  }
  created.erase("first");
  EXPECT_EQ(created.size(), static_cast<size_t>(kJobs));
}

// One commit may change more jobs than may wait for a slow reader.
TEST(WatchTest, AFastWatcherSurvivesACommitThatChangesManyJobs) {
  Cluster cluster;
  constexpr int kJobs = 300;
  for (int i = 0; i < kJobs; ++i) ASSERT_TRUE(cluster.Submit("job-" + std::to_string(i)).ok());
  Watcher watcher(&cluster, "", 0, absl::Seconds(60));
  std::set<std::string> waiting;
  for (int i = 0; i < kJobs; ++i) watcher.Next();
  // Two are checked, and all others get another reason to wait.
  auto worker = cluster.MakeWorker({.auto_check = false});
  ASSERT_TRUE(worker->Connect().ok());
  while (waiting.size() < kJobs - 2 && !::testing::Test::HasFailure()) {
    const WatchJobsResponse response = watcher.Next();
    if (response.job().status().reason() == "CheckSlotsBusy") {
      waiting.insert(response.job().name());
    }
  }
}

TEST(WatchTest, RefusesWhatItCannotGive) {
  Cluster cluster;
  std::vector<WatchJobsResponse> none;
  EXPECT_EQ(ReasonOf(Watcher(&cluster, "nobody", 0).Drain(&none)), "JOB_NOT_FOUND");
  EXPECT_EQ(ReasonOf(Watcher(&cluster, "", 1'000'000).Drain(&none)), "REVISION_UNKNOWN");
  EXPECT_EQ(Watcher(&cluster, "", -1).Drain(&none).code(), absl::StatusCode::kInvalidArgument);
}

TEST(WatchTest, ShutdownTellsWatchersToComeBack) {
  Cluster cluster;
  ASSERT_TRUE(cluster.Submit("job").ok());
  Watcher watcher(&cluster, "job", 0);
  watcher.Next();
  std::thread stopper([&] { cluster.coordinator().Shutdown(); });
  std::vector<WatchJobsResponse> rest;
  EXPECT_EQ(watcher.Drain(&rest).code(), absl::StatusCode::kUnavailable);
  stopper.join();
}

}  // namespace
}  // namespace liger::testing
