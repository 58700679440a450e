// Reading, listing and deleting jobs, their events and artifacts; the fleet and
// the catalog.

#include <fstream>
#include <optional>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/api/status.h"
#include "server/errors/errors.h"
#include "tests/unit/coordinator/cluster.h"

namespace liger::testing {
namespace {

using liger::server::FromGrpc;
using liger::server::ReasonOf;
using liger::v1::JobStatus;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class JobsTest : public ::testing::Test {
 protected:
  void ConnectWorker() {
    worker_ = cluster_.MakeWorker();
    ASSERT_TRUE(worker_->Connect().ok());
  }
  void RunToSuccess(const std::string& name) {
    ASSERT_TRUE(cluster_.Submit(name).ok());
    worker_->Succeed(worker_->ExpectTrain().ref());
    cluster_.WaitFor(name, JobStatus::SUCCEEDED);
  }
  absl::Status List(const std::string& filter, int page_size, const std::string& token,
                    liger::v1::ListJobsResponse* response) {
    liger::v1::ListJobsRequest request;
    request.set_filter(filter);
    request.set_page_size(page_size);
    request.set_page_token(token);
    grpc::ClientContext context;
    return FromGrpc(cluster_.api().ListJobs(&context, request, response));
  }
  std::vector<std::string> Names(const std::string& filter) {
    liger::v1::ListJobsResponse response;
    EXPECT_TRUE(List(filter, 0, "", &response).ok());
    std::vector<std::string> names;
    for (const auto& job : response.jobs()) names.push_back(job.name());
    return names;
  }

  Cluster cluster_;
  std::unique_ptr<FakeWorker> worker_;
};

TEST_F(JobsTest, UnknownAndMissingJobsAreToldApart) {
  EXPECT_EQ(ReasonOf(cluster_.Get("nobody").status()), "JOB_NOT_FOUND");
  EXPECT_EQ(cluster_.Get("nobody").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(cluster_.Get("").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(cluster_.Cancel("nobody").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(cluster_.Delete("nobody").code(), absl::StatusCode::kNotFound);
}

TEST_F(JobsTest, ACancellationsReasonIsShort) {
  ASSERT_TRUE(cluster_.Submit("a").ok());
  std::string longest;
  for (int i = 0; i < 1024; ++i) longest += "\u00e4";
  const absl::Status refused = cluster_.Cancel("a", longest + "x").status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("reason: must have at most 1024"));
  EXPECT_TRUE(cluster_.Cancel("a", longest).ok());
}

TEST_F(JobsTest, MetricsOfAnAttemptThatNeverWasAreNotFound) {
  ASSERT_TRUE(cluster_.Submit("a").ok());
  const auto query = [&](std::optional<int64_t> epoch) {
    liger::v1::QueryMetricsRequest request;
    request.set_job("a");
    if (epoch.has_value()) request.set_epoch(*epoch);
    grpc::ClientContext context;
    liger::v1::QueryMetricsResponse response;
    return FromGrpc(cluster_.api().QueryMetrics(&context, request, &response));
  };
  EXPECT_EQ(ReasonOf(query(99)), "ATTEMPT_NOT_FOUND");
  EXPECT_TRUE(query(std::nullopt).ok());
}

TEST_F(JobsTest, ListsNewestFirstInPages) {
  for (const char* name : {"a", "b", "c"}) ASSERT_TRUE(cluster_.Submit(name).ok());
  liger::v1::ListJobsResponse first, second;
  ASSERT_TRUE(List("", 2, "", &first).ok());
  ASSERT_EQ(first.jobs_size(), 2);
  EXPECT_EQ(first.jobs(0).name(), "c");
  ASSERT_TRUE(List("", 2, first.next_page_token(), &second).ok());
  ASSERT_EQ(second.jobs_size(), 1);
  EXPECT_EQ(second.jobs(0).name(), "a");
  EXPECT_THAT(second.next_page_token(), IsEmpty());
}

TEST_F(JobsTest, Filters) {
  for (const char* name : {"nlp-1", "nlp-2", "vision"}) ASSERT_TRUE(cluster_.Submit(name).ok());
  ASSERT_TRUE(cluster_.Cancel("nlp-1").ok());
  EXPECT_THAT(Names("state=CANCELLED"), ElementsAre("nlp-1"));
  EXPECT_THAT(Names("name=nlp-*"), ElementsAre("nlp-2", "nlp-1"));
  EXPECT_THAT(Names("name=nlp-* AND state=VALIDATING"), ElementsAre("nlp-2"));
  EXPECT_THAT(Names("trainer=orpo"), IsEmpty());
  liger::v1::ListJobsResponse response;
  EXPECT_EQ(List("colour=red", 0, "", &response).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(List("", -1, "", &response).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(List("", 2, "garbage", &response).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(JobsTest, EventsAreGaplessAndPaged) {
  ConnectWorker();
  RunToSuccess("job");
  liger::v1::ListEventsRequest request;
  request.set_job("job");
  request.set_page_size(3);
  std::vector<liger::v1::JobEvent> events;
  while (true) {
    liger::v1::ListEventsResponse page;
    grpc::ClientContext context;
    ASSERT_TRUE(cluster_.api().ListEvents(&context, request, &page).ok());
    events.insert(events.end(), page.events().begin(), page.events().end());
    if (page.next_after_seq() == 0) break;
    request.set_after_seq(page.next_after_seq());
  }
  ASSERT_GT(events.size(), 4u);
  for (size_t i = 0; i < events.size(); ++i) EXPECT_EQ(events[i].seq(), i + 1);
  EXPECT_EQ(events.back().to_state(), JobStatus::SUCCEEDED);
}

TEST_F(JobsTest, ThePublishedModelIsAnArtifact) {
  ConnectWorker();
  RunToSuccess("job");
  for (const char* job : {"job", ""}) {
    liger::v1::ListArtifactsRequest request;
    request.set_job(job);
    liger::v1::ListArtifactsResponse response;
    grpc::ClientContext context;
    ASSERT_TRUE(cluster_.api().ListArtifacts(&context, request, &response).ok());
    ASSERT_EQ(response.artifacts_size(), 1);
    EXPECT_EQ(response.artifacts(0).kind(), "model");
    EXPECT_EQ(response.artifacts(0).bytes(), 1234);
    EXPECT_EQ(response.artifacts(0).uri(), cluster_.Get("job")->status().output_uri());
  }
}

TEST_F(JobsTest, OnlyJobsThatAreOverCanBeDeleted) {
  ConnectWorker();
  ASSERT_TRUE(cluster_.Submit("job").ok());
  const auto start = worker_->ExpectTrain();
  const absl::Status refused = cluster_.Delete("job");
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReasonOf(refused), "JOB_NOT_TERMINAL");
  worker_->Succeed(start.ref());
  cluster_.WaitFor("job", JobStatus::SUCCEEDED);
  ASSERT_TRUE(cluster_.Delete("job").ok());
  EXPECT_EQ(ReasonOf(cluster_.Get("job").status()), "JOB_NOT_FOUND");
  EXPECT_THAT(Names(""), IsEmpty());
}

TEST_F(JobsTest, AnArtifactOfADeletedJobIsNotListed) {
  ConnectWorker();
  RunToSuccess("job");
  ASSERT_TRUE(cluster_.Delete("job").ok());
  liger::v1::ListArtifactsResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(cluster_.api().ListArtifacts(&context, {}, &response).ok());
  EXPECT_EQ(response.artifacts_size(), 0);
}

TEST_F(JobsTest, AnOutputIsRemovedAlsoWhenItsWorkerWasAway) {
  ConnectWorker();
  RunToSuccess("job");
  const std::string uri = cluster_.Get("job")->status().output_uri();
  worker_->Disconnect();
  liger::v1::DeleteJobRequest request;
  request.set_job("job");
  request.set_delete_output(true);
  liger::v1::DeleteJobResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(cluster_.api().DeleteJob(&context, request, &response).ok());
  for (int session = 0; session < 2; ++session) {  // the first answer is lost
    ASSERT_TRUE(worker_->Connect().ok());
    const auto reclaim = worker_->Expect(liger::worker::v1::CoordinatorMessage::kReclaim).reclaim();
    ASSERT_EQ(reclaim.outputs_size(), 1);
    EXPECT_EQ(reclaim.outputs(0).uri(), uri);
    EXPECT_EQ(reclaim.outputs(0).manifest_digest(), "sha256:" + std::string(64, 'a'));
  }
  liger::worker::v1::WorkerMessage done;
  auto* removed = done.mutable_reclaimed()->add_outputs();
  removed->set_uri(uri);
  removed->set_manifest_digest("sha256:" + std::string(64, 'a'));
  worker_->Send(done);
  // Messages of a session are in order: when this job starts, that was heard.
  ASSERT_TRUE(cluster_.Submit("next").ok());
  worker_->SendStarted(worker_->ExpectTrain().ref());
  cluster_.WaitFor("next", JobStatus::RUNNING);
  ASSERT_TRUE(worker_->Connect().ok());
  EXPECT_FALSE(
      worker_->Take(liger::worker::v1::CoordinatorMessage::kReclaim, absl::Milliseconds(300)));
}

TEST_F(JobsTest, ARunningJobTellsSinceWhenItStandsStill) {
  ConnectWorker();
  ASSERT_TRUE(cluster_.Submit("job").ok());
  const auto ref = worker_->ExpectTrain().ref();
  worker_->SendStarted(ref);
  EXPECT_EQ(cluster_.WaitFor("job", JobStatus::RUNNING).status().progress().idle_seconds(), 0);
  worker_->StopHeartbeats();  // those tell of no task
  absl::SleepFor(absl::Milliseconds(100));
  liger::worker::v1::WorkerMessage message;
  auto* task = message.mutable_heartbeat()->add_tasks();
  *task->mutable_ref() = ref;
  task->set_last_progress_age_seconds(300);
  worker_->Send(message);
  double idle = 0;
  for (int i = 0; i < 20 && idle == 0; ++i) {
    absl::SleepFor(absl::Milliseconds(10));
    idle = cluster_.Get("job")->status().progress().idle_seconds();
  }
  EXPECT_GE(idle, 300);
  EXPECT_LT(idle, 305);
}

TEST_F(JobsTest, WorkersShowTheirDevicesAndWhoHoldsThem) {
  ConnectWorker();
  ASSERT_TRUE(cluster_.Submit("job").ok());
  worker_->SendStarted(worker_->ExpectTrain().ref());
  cluster_.WaitFor("job", JobStatus::RUNNING);
  liger::v1::ListWorkersResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(cluster_.api().ListWorkers(&context, {}, &response).ok());
  ASSERT_EQ(response.workers_size(), 1);
  const liger::v1::Worker& worker = response.workers(0);
  EXPECT_EQ(worker.worker_id(), "w1");
  EXPECT_EQ(worker.name(), "w1") << "it told no host";
  EXPECT_EQ(worker.state(), "READY");
  EXPECT_GT(worker.last_heartbeat_time().seconds(), 0);
  EXPECT_THAT(worker.job_names(), ElementsAre("job"));
  ASSERT_EQ(worker.devices_size(), 1);
  EXPECT_EQ(worker.devices(0).job_name(), "job");
}

TEST(WorkersTest, AreNamedByTheirHost) {
  Cluster cluster;
  auto alone = cluster.MakeWorker({.worker_id = "11111111-aaaa", .host_name = "node-1"});
  auto first = cluster.MakeWorker({.worker_id = "22222222-aaaa", .host_name = "node-2"});
  auto second = cluster.MakeWorker({.worker_id = "33333333-aaaa", .host_name = "node-2"});
  for (auto* worker : {&alone, &first, &second}) ASSERT_TRUE((*worker)->Connect().ok());
  liger::v1::ListWorkersResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(cluster.api().ListWorkers(&context, {}, &response).ok());
  std::vector<std::string> names;
  for (const auto& worker : response.workers()) names.push_back(worker.name());
  EXPECT_THAT(names, ::testing::UnorderedElementsAre("node-1", "node-2-22222222",
                                                     "node-2-33333333"));
}

TEST(CatalogTest, ListsWhereThingsAreOrWhereToPutThem) {
  // The test's own catalog, so that it does not depend on the shipped one.
  const std::string path = ::testing::TempDir() + "/catalog.yaml";
  std::ofstream(path) << "models:\n"
                         "  - name: here\n    uri: models/here\n"
                         "  - name: absent\n    uri: models/absent\n"
                         "  - name: linked\n    uri: models/linked\n"
                         "datasets:\n"
                         "  - name: rows\n    uri: data/rows.jsonl\n    default_for: [sft]\n";
  Cluster cluster([&](Cluster::Options* options) { options->catalog_file = path; });
  liger::worker::v1::InventoryItem item;
  item.set_kind("model");
  item.set_uri("models/here");
  liger::worker::v1::InventoryItem linked = item;
  linked.set_uri("models/linked");
  linked.set_refused("models/linked leads out of /models");
  auto worker = cluster.MakeWorker({.inventory = {item, linked}});
  ASSERT_TRUE(worker->Connect().ok());

  liger::v1::ListModelsResponse models;
  grpc::ClientContext models_context;
  ASSERT_TRUE(cluster.api().ListModels(&models_context, {}, &models).ok());
  ASSERT_EQ(models.models_size(), 3);
  for (const auto& model : models.models()) {
    if (model.name() == "here") {
      EXPECT_THAT(model.present_on(), ElementsAre("w1"));
      EXPECT_THAT(model.hint(), IsEmpty());
    } else if (model.name() == "linked") {
      EXPECT_THAT(model.present_on(), IsEmpty());
      EXPECT_EQ(model.hint(), "worker w1 refuses it: models/linked leads out of /models");
    } else {
      EXPECT_THAT(model.present_on(), IsEmpty());
      EXPECT_THAT(model.hint(), HasSubstr("models/absent"));
    }
  }
  liger::v1::ListDatasetsResponse datasets;
  grpc::ClientContext datasets_context;
  ASSERT_TRUE(cluster.api().ListDatasets(&datasets_context, {}, &datasets).ok());
  ASSERT_EQ(datasets.datasets_size(), 1);
  EXPECT_THAT(datasets.datasets(0).default_for(), ElementsAre("sft"));
}

}  // namespace
}  // namespace liger::testing
