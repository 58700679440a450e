// Runs the real liger-cli against a scripted coordinator: exit codes, output
// formats, error details.
#include <gmock/gmock.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/server_builder.h"
#include "liger/v1/fine_tuning.grpc.pb.h"

namespace liger::client {
namespace {

using liger::v1::Job;
using liger::v1::JobStatus;
using testing::HasSubstr;
using testing::Not;

Job MakeJob(JobStatus::State state) {
  Job job;
  job.set_uid("u1");
  job.set_name("j1");
  job.mutable_spec()->mutable_orpo();
  job.mutable_spec()->mutable_model()->set_name("tiny");
  *job.mutable_resolved_spec() = job.spec();
  job.mutable_status()->set_state(state);
  return job;
}

constexpr char kWorkerId[] = "0f8fad5b-d9cb-469f-a165-70867728950e";

class ScriptedServer : public liger::v1::FineTuning::Service {
 public:
  grpc::Status CreateJob(grpc::ServerContext*, const liger::v1::CreateJobRequest* request,
                         liger::v1::CreateJobResponse* response) override {
    absl::MutexLock lock(&mutex);
    created = *request;
    if (!create_status.ok()) return create_status;
    *response->mutable_job() = MakeJob(JobStatus::QUEUED);
    response->add_notices("using dataset pairs");
    return grpc::Status::OK;
  }
  grpc::Status GetJob(grpc::ServerContext*, const liger::v1::GetJobRequest* request,
                      Job* response) override {
    if (request->job() != "j1") return {grpc::StatusCode::NOT_FOUND, "no job 'nope'"};
    absl::MutexLock lock(&mutex);
    *response = MakeJob(end_state);
    response->mutable_status()->set_message("the loss is NaN at step 3");
    response->mutable_status()->set_action("lower the learning rate");
    auto* attempt = response->mutable_status()->add_attempts();
    attempt->set_epoch(1);
    attempt->set_state("FAILED");
    attempt->set_worker_id(kWorkerId);
    return grpc::Status::OK;
  }
  grpc::Status ListJobs(grpc::ServerContext*, const liger::v1::ListJobsRequest* request,
                        liger::v1::ListJobsResponse* response) override {
    if (!request->filter().empty()) return grpc::Status::OK;
    *response->add_jobs() = MakeJob(JobStatus::RUNNING);
    response->mutable_jobs(0)->mutable_status()->set_message(
        std::string("placed on worker ") + kWorkerId);
    return grpc::Status::OK;
  }
  grpc::Status ListWorkers(grpc::ServerContext*, const liger::v1::ListWorkersRequest*,
                           liger::v1::ListWorkersResponse* response) override {
    auto* worker = response->add_workers();
    worker->set_worker_id(kWorkerId);
    worker->set_name("node-1");
    worker->set_state("READY");
    return grpc::Status::OK;
  }
  grpc::Status ListModels(grpc::ServerContext*, const liger::v1::ListModelsRequest*,
                          liger::v1::ListModelsResponse* response) override {
    auto* model = response->add_models();
    model->set_name("tiny");
    model->set_uri("tiny");
    model->add_present_on(kWorkerId);
    return grpc::Status::OK;
  }
  grpc::Status ListArtifacts(grpc::ServerContext*, const liger::v1::ListArtifactsRequest*,
                             liger::v1::ListArtifactsResponse*) override {
    return grpc::Status::OK;
  }
  grpc::Status CancelJob(grpc::ServerContext*, const liger::v1::CancelJobRequest*,
                         Job* response) override {
    absl::MutexLock lock(&mutex);
    *response = MakeJob(cancelled_state);
    return grpc::Status::OK;
  }
  grpc::Status PauseJob(grpc::ServerContext*, const liger::v1::PauseJobRequest* request,
                        Job* response) override {
    if (request->job() == "over") {
      google::rpc::Status details;
      details.set_message("job 'over' cannot be paused: it has ended (SUCCEEDED)");
      return {grpc::StatusCode::FAILED_PRECONDITION, details.message(),
              details.SerializeAsString()};
    }
    *response = MakeJob(JobStatus::PAUSING);
    absl::MutexLock lock(&mutex);
    first_watched = JobStatus::PAUSING;
    return grpc::Status::OK;
  }
  grpc::Status ResumeJob(grpc::ServerContext*, const liger::v1::ResumeJobRequest*,
                         Job* response) override {
    *response = MakeJob(JobStatus::QUEUED);
    return grpc::Status::OK;
  }
  grpc::Status DeleteJob(grpc::ServerContext*, const liger::v1::DeleteJobRequest*,
                         liger::v1::DeleteJobResponse*) override {
    google::rpc::Status details;
    details.set_message("the coordinator is stopping");
    return {grpc::StatusCode::UNAVAILABLE, details.message(), details.SerializeAsString()};
  }
  // Ends in the middle of an attempt's log, as when a coordinator restarts.
  grpc::Status TailLogs(grpc::ServerContext*, const liger::v1::TailLogsRequest*,
                        grpc::ServerWriter<liger::v1::TailLogsResponse>* writer) override {
    absl::MutexLock lock(&mutex);
    const std::string log = tails++ == 0 ? "one two" : "one two three\n";
    for (size_t offset = 0; offset < log.size(); offset += 5) {
      liger::v1::TailLogsResponse piece;
      piece.set_epoch(1);
      piece.set_offset(static_cast<int64_t>(offset));
      piece.set_data(log.substr(offset, 5));
      writer->Write(piece);
    }
    return tails == 1 ? grpc::Status(restart_code, "") : grpc::Status::OK;
  }
  grpc::Status WatchJobs(grpc::ServerContext*, const liger::v1::WatchJobsRequest* request,
                         grpc::ServerWriter<liger::v1::WatchJobsResponse>* writer) override {
    liger::v1::WatchJobsResponse update;
    {
      absl::MutexLock lock(&mutex);
      *update.mutable_job() = MakeJob(first_watched);
    }
    auto* progress = update.mutable_job()->mutable_status()->mutable_progress();
    progress->set_step(3);
    progress->set_max_steps(10);
    (*progress->mutable_values())["loss"] = 1.5;
    update.set_revision(7);
    writer->Write(update);
    absl::MutexLock lock(&mutex);
    // The first stream breaks, as when a coordinator restarts.
    if (watches++ == 0) return {restart_code, ""};
    resumed_from = request->from_revision();
    if (restored && resumed_from > 0) return RevisionUnknown();
    if (end_state == JobStatus::RUNNING) {
      mutex.Await(absl::Condition(&released));
      return grpc::Status::OK;
    }
    *update.mutable_job() = MakeJob(end_state);
    update.mutable_job()->mutable_status()->set_output_uri("/out/j1");
    update.set_revision(8);
    writer->Write(update);
    return grpc::Status::OK;
  }

  static grpc::Status RevisionUnknown() {
    google::rpc::ErrorInfo info;
    info.set_reason("REVISION_UNKNOWN");
    google::rpc::Status details;
    details.add_details()->PackFrom(info);
    return {grpc::StatusCode::OUT_OF_RANGE, "not reached yet", details.SerializeAsString()};
  }

  absl::Mutex mutex;
  grpc::Status create_status ABSL_GUARDED_BY(mutex);
  liger::v1::CreateJobRequest created ABSL_GUARDED_BY(mutex);
  JobStatus::State end_state ABSL_GUARDED_BY(mutex) = JobStatus::SUCCEEDED;
  // What calls to a coordinator that goes away end with.
  grpc::StatusCode restart_code ABSL_GUARDED_BY(mutex) = grpc::StatusCode::UNAVAILABLE;
  JobStatus::State cancelled_state ABSL_GUARDED_BY(mutex) = JobStatus::CANCELLED;
  JobStatus::State first_watched ABSL_GUARDED_BY(mutex) = JobStatus::RUNNING;
  int watches ABSL_GUARDED_BY(mutex) = 0;
  int tails ABSL_GUARDED_BY(mutex) = 0;
  bool restored ABSL_GUARDED_BY(mutex) = false;
  int64_t resumed_from ABSL_GUARDED_BY(mutex) = -1;
  bool released ABSL_GUARDED_BY(mutex) = false;
};

struct Result {
  int code = -1;
  std::string text;  // stdout and stderr
};

class VerbsTest : public testing::Test {
 protected:
  VerbsTest() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
  }
  ~VerbsTest() override {
    {
      absl::MutexLock lock(&service_.mutex);
      service_.released = true;
    }
    server_->Shutdown();
  }

  Result Run(const std::string& arguments, const std::string& prefix = "",
             const std::string& redirect = " 2>&1") {
    const std::string command =
        "LIGER_CONFIG=/nonexistent LIGER_ADDRESS=127.0.0.1:" + std::to_string(port_) + " " +
        prefix + " " LIGER_BIN_DIR "/liger-cli " + arguments + redirect;
    Result result;
    FILE* pipe = popen(command.c_str(), "r");
    std::array<char, 4096> piece;
    while (size_t n = fread(piece.data(), 1, piece.size(), pipe)) {
      result.text.append(piece.data(), n);
    }
    result.code = WEXITSTATUS(pclose(pipe));
    return result;
  }

  void EndWith(JobStatus::State state) {
    absl::MutexLock lock(&service_.mutex);
    service_.end_state = state;
  }

  void CancelLeaves(JobStatus::State state) {
    absl::MutexLock lock(&service_.mutex);
    service_.cancelled_state = state;
  }

  ScriptedServer service_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(VerbsTest, SubmitSendsTheSpecAndSaysWhatWasChosen) {
  const Result result = Run("submit --model tiny --trainer orpo --set training.max_steps=3");
  EXPECT_EQ(result.code, 0);
  EXPECT_THAT(result.text, HasSubstr("note: using dataset pairs"));
  EXPECT_THAT(result.text, HasSubstr("job j1 submitted"));
  absl::MutexLock lock(&service_.mutex);
  EXPECT_TRUE(service_.created.spec().has_orpo());
  EXPECT_EQ(service_.created.spec().training().max_steps(), 3);
  EXPECT_FALSE(service_.created.request_id().empty());
}

TEST_F(VerbsTest, ViolationsArePrintedByFieldWithExitCode3) {
  google::rpc::BadRequest bad_request;
  auto* violation = bad_request.add_field_violations();
  violation->set_field("model");
  violation->set_description("no such model 'tyni'; did you mean 'tiny'?");
  google::rpc::Status details;
  details.add_details()->PackFrom(bad_request);
  {
    absl::MutexLock lock(&service_.mutex);
    service_.create_status = grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "invalid spec",
                                          details.SerializeAsString());
  }
  const Result result = Run("submit --model tyni --trainer sft");
  EXPECT_EQ(result.code, 3);
  EXPECT_EQ(result.text, "error: model: no such model 'tyni'; did you mean 'tiny'?\n");
}

TEST_F(VerbsTest, ExitCodesTellHowAJobEnded) {
  const std::pair<JobStatus::State, int> cases[] = {
      {JobStatus::SUCCEEDED, 0}, {JobStatus::FAILED, 5}, {JobStatus::CANCELLED, 2}};
  for (const auto& [state, code] : cases) {
    EndWith(state);
    const Result result = Run("submit --model tiny --trainer orpo --wait");
    EXPECT_EQ(result.code, code) << result.text;
    EXPECT_THAT(result.text, HasSubstr("output:    /out/j1"));
  }
}

TEST_F(VerbsTest, WatchResumesFromItsRevisionAndIsPlainInAPipe) {
  const Result result = Run("watch j1");
  EXPECT_EQ(result.code, 0) << result.text;
  EXPECT_THAT(result.text, HasSubstr("3/10  loss 1.5"));
  EXPECT_THAT(result.text, Not(HasSubstr("\033")));
  absl::MutexLock lock(&service_.mutex);
  EXPECT_EQ(service_.watches, 2);
  EXPECT_EQ(service_.resumed_from, 7);
}

TEST_F(VerbsTest, AnEmptyNameIsRefused) {
  const Result result = Run("submit --model tiny --trainer orpo --name ''");
  EXPECT_EQ(result.code, 3);
  EXPECT_THAT(result.text, HasSubstr("--name: it is empty"));
}

// As gRPC's server answers calls that come while it shuts down.
TEST_F(VerbsTest, FollowersGoOnOverABareCancelled) {
  {
    absl::MutexLock lock(&service_.mutex);
    service_.restart_code = grpc::StatusCode::CANCELLED;
  }
  const Result watched = Run("watch j1");
  EXPECT_EQ(watched.code, 0) << watched.text;
  EXPECT_EQ(Run("logs -f j1").text, "one two three\n");
  {
    absl::MutexLock lock(&service_.mutex);
    service_.tails = 0;
  }
  const Result broken = Run("logs j1");
  EXPECT_EQ(broken.code, 1) << "2 is for jobs that were cancelled";
  EXPECT_THAT(broken.text, HasSubstr("no coordinator answers at "));
}

TEST_F(VerbsTest, WatchBeginsAgainWhenTheStoreWasRestored) {
  {
    absl::MutexLock lock(&service_.mutex);
    service_.restored = true;
  }
  const Result result = Run("watch j1");
  EXPECT_EQ(result.code, 0) << result.text;
  absl::MutexLock lock(&service_.mutex);
  EXPECT_EQ(service_.watches, 3);
  EXPECT_EQ(service_.resumed_from, 0);
}

TEST_F(VerbsTest, LogsGoOnBehindWhatIsPrinted) {
  EXPECT_EQ(Run("logs -f j1").text, "one two three\n");
  {
    absl::MutexLock lock(&service_.mutex);
    EXPECT_EQ(service_.tails, 2);
    service_.tails = 0;
  }
  EXPECT_EQ(Run("logs j1").code, 1) << "without -f there is nothing to resume";
}

TEST_F(VerbsTest, WaitTimesOutWith6AndCtrlCDetaches) {
  EndWith(JobStatus::RUNNING);
  EXPECT_EQ(Run("watch j1 --timeout 1").code, 6);
  const Result interrupted = Run("watch j1", "timeout -s INT 1");
  EXPECT_THAT(interrupted.text, HasSubstr("detached; the job goes on"));
}

TEST_F(VerbsTest, GetLeadsWithCauseAndAction) {
  EndWith(JobStatus::FAILED);
  const Result result = Run("get j1");
  EXPECT_EQ(result.code, 0);
  EXPECT_THAT(result.text, testing::StartsWith("j1  FAILED\n"
                                               "cause        the loss is NaN at step 3\n"
                                               "action       lower the learning rate\n"));
  EXPECT_EQ(Run("get nope").code, 3);
  EXPECT_THAT(Run("get nope").text, HasSubstr("no job 'nope'"));
}

TEST_F(VerbsTest, OutputFormatsAreForPrograms) {
  EXPECT_EQ(Run("list -o name").text, "j1\n");
  EXPECT_THAT(Run("list -o json").text, HasSubstr("\"state\": \"RUNNING\""));
  EXPECT_THAT(Run("get j1 -o yaml").text, HasSubstr("uid: \"u1\""));
  EXPECT_THAT(Run("list").text, HasSubstr("j1    RUNNING  orpo     tiny"));
  EXPECT_EQ(Run("version -o xml").code, 3);
  EXPECT_THAT(Run("list -o xml").text,
              HasSubstr("-o xml: the output of list can be table, wide, json, yaml, name"));
}

TEST_F(VerbsTest, WorkersHaveNamesForPeopleAndIdsForPrograms) {
  EXPECT_THAT(Run("list").text, HasSubstr("placed on worker node-1\n"));
  EXPECT_THAT(Run("get j1").text, HasSubstr("FAILED on node-1\n"));
  EXPECT_THAT(Run("workers").text, HasSubstr("node-1  READY"));
  {
    absl::MutexLock lock(&service_.mutex);
    service_.create_status = grpc::Status(grpc::StatusCode::FAILED_PRECONDITION,
                                          std::string("worker ") + kWorkerId + " refuses it");
  }
  EXPECT_EQ(Run("submit --model tiny --trainer sft").text, "error: worker node-1 refuses it\n");
  for (const char* verb : {"list", "get j1", "workers"}) {
    EXPECT_THAT(Run(verb).text, Not(HasSubstr(kWorkerId))) << verb;
    for (const char* output : {" -o json", " -o yaml", " -o wide"}) {
      EXPECT_THAT(Run(std::string(verb) + output).text, HasSubstr(kWorkerId)) << verb << output;
    }
  }
}

TEST_F(VerbsTest, EveryVerbHonoursItsOutputOrRefusesIt) {
  EXPECT_THAT(Run("version -o json").text, HasSubstr("{\"version\": \""));
  EXPECT_EQ(Run("cancel j1 -o name").text, "j1\n");
  EXPECT_THAT(Run("cancel j1 -o json").text, HasSubstr("\"state\": \"CANCELLED\""));
  EXPECT_THAT(Run("get j1 --spec -o json").text, testing::StartsWith("{\n \"model\""));
  EXPECT_THAT(Run("get j1 --spec").text, testing::StartsWith("model:"));
  for (const char* refused : {"delete j1 -o json", "events j1 -o name", "metrics j1 -o name",
                              "logs j1 -o json", "init -o yaml", "completion bash -o json"}) {
    const Result result = Run(refused);
    EXPECT_EQ(result.code, 3) << refused;
    EXPECT_THAT(result.text, HasSubstr("the output of")) << refused;
  }
}

TEST_F(VerbsTest, EmptyListsAreListsForPrograms) {
  EXPECT_EQ(Run("list --filter state=FAILED -o json").text, "{\n \"jobs\": []\n}\n");
  EXPECT_EQ(Run("list --filter state=FAILED -o yaml").text, "jobs: []\n");
  EXPECT_EQ(Run("artifacts -o json").text, "{\n \"artifacts\": []\n}\n");
}

TEST_F(VerbsTest, WaitingForAProgramLeavesStandardOutputToTheResult) {
  const Result result =
      Run("submit --model tiny --trainer orpo --wait -o json", "", " 2>/dev/null");
  EXPECT_EQ(result.code, 0);
  EXPECT_THAT(result.text, testing::StartsWith("{"));
  EXPECT_THAT(result.text, HasSubstr("\"state\": \"SUCCEEDED\""));
  EXPECT_THAT(result.text, Not(HasSubstr("3/10")));
  EXPECT_THAT(Run("watch j1 -o name", "", " 2>/dev/null").text, "j1\n");
}

TEST_F(VerbsTest, NoServerAndBadUsageAreClear) {
  const Result result = Run("list --address 127.0.0.1:1");
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.text, HasSubstr("no coordinator answers at 127.0.0.1:1"));
  EXPECT_THAT(result.text, HasSubstr("liger-cli up"));
  const Result stopping = Run("delete j1");
  EXPECT_EQ(stopping.code, 1);
  EXPECT_EQ(stopping.text, "error: the coordinator is stopping\n");
  EXPECT_THAT(Run("submit --model tiny --timeout 3").text, HasSubstr("--wait"));
  EXPECT_EQ(Run("submit --model tiny --timeout 3").code, 3);
  EXPECT_EQ(Run("watch j1 --timeout -1").code, 3);
  EXPECT_EQ(Run("submit -f /tmp").code, 3);
  EXPECT_EQ(Run("list --address x:1 --context lab").code, 3);
  EXPECT_EQ(Run("lsit").code, 3);
  EXPECT_THAT(Run("lsit").text, HasSubstr("did you mean 'list'?"));
  EXPECT_EQ(Run("list --context lab").code, 3);
  const Result address = Run("list --address nonsense");
  EXPECT_EQ(address.code, 3);
  EXPECT_THAT(address.text, HasSubstr("address 'nonsense' is not host:port"));
  EXPECT_EQ(Run("version").code, 0);
}

TEST_F(VerbsTest, WrongCommandLinesAreErrorsWithTheNearestWord) {
  const std::pair<const char*, const char*> cases[] = {
      {"submit --modle tiny", "error: '--modle' is not a flag of submit; did you mean '--model'?\n"
                              "see liger-cli submit --help\n"},
      {"submit", "submit needs --model and --trainer, or a job file"},
      {"submit --model llama3-8b", "submit needs --model and --trainer, or a job file"},
      {"submit --trianer=sft", "'--trianer' is not a flag of submit; did you mean '--trainer'?"},
      {"list --adress x:1", "'--adress' is not a flag of list; did you mean '--address'?"},
      {"get", "error: job is required\nsee liger-cli get --help\n"},
      {"get j1 j2", "error: 'j2' is one argument too many for get\n"},
      {"submit job.yaml", "for submit; did you mean -f job.yaml?\n"},
      {"experiment submit g.yaml", "did you mean -f g.yaml?\n"},
      {"logs j1 --tail x", "'x' is not a whole number, 0 or above"},
      {"metrics j1 --from-step x", "'x' is not a whole number, 0 or above"},
      {"submit --model", "error: --model: 1 required TEXT missing\n"},
      {"lsit", "error: 'lsit' is not a verb; did you mean 'list'?\nsee liger-cli --help\n"},
      {"", "error: name a verb\nsee liger-cli --help\n"}};
  for (const auto& [arguments, text] : cases) {
    const Result result = Run(arguments);
    EXPECT_EQ(result.code, 3) << arguments;
    EXPECT_THAT(result.text, HasSubstr(text)) << arguments;
  }
  EXPECT_EQ(Run("--help").code, 0);
  EXPECT_EQ(Run("submit --help").code, 0);
}

TEST_F(VerbsTest, InspectSaysWhereAModelIs) {
  const std::string inspect = "datasets inspect rows.json --trainer sft --model-root /nowhere ";
  const Result known = Run(inspect + "--model tiny");
  EXPECT_EQ(known.code, 3);
  EXPECT_THAT(known.text, HasSubstr("model.name: 'tiny' is neither here nor below /nowhere; worker "
                                    "node-1 has it below its own root: on that machine give "
                                    "--model-root"));
  EXPECT_THAT(Run(inspect + "--model other").text, HasSubstr("knows of no worker that has it"));
  EXPECT_THAT(Run(inspect + "--model tiny --address 127.0.0.1:1").text, HasSubstr("none answers"));
}

TEST_F(VerbsTest, PauseWaitsUntilTheDevicesAreFree) {
  EXPECT_EQ(Run("pause j1").text, "j1: PAUSING\n");
  EXPECT_EQ(Run("pause j1 -o name").text, "j1\n");
  EndWith(JobStatus::PAUSED);
  const Result paused = Run("pause j1 --wait");
  EXPECT_EQ(paused.code, 0);
  EXPECT_THAT(paused.text, testing::EndsWith("PAUSED\n"));
  EXPECT_THAT(Run("pause j1 --wait -o json", "", " 2>/dev/null").text,
              HasSubstr("\"state\": \"PAUSED\""));
  EndWith(JobStatus::SUCCEEDED);
  const Result done = Run("pause j1 --wait");
  EXPECT_EQ(done.code, 1);
  EXPECT_THAT(done.text, HasSubstr("j1 is not paused: it is SUCCEEDED"));
  EndWith(JobStatus::FAILED);
  EXPECT_EQ(Run("pause j1 --wait").code, 5);
  const Result over = Run("pause over");
  EXPECT_EQ(over.code, 3);
  EXPECT_THAT(over.text, HasSubstr("cannot be paused: it has ended (SUCCEEDED)"));
  EXPECT_EQ(Run("resume j1").text, "j1: QUEUED\n");
  EXPECT_EQ(Run("resume j1 --wait").code, 5) << "it is followed to its end";
}

TEST_F(VerbsTest, CancelSaysWhatCameOfIt) {
  EXPECT_EQ(Run("cancel j1").text, "j1: CANCELLED\n");
  CancelLeaves(JobStatus::SUCCEEDED);
  EXPECT_EQ(Run("cancel j1").text, "j1 is not cancelled: it had SUCCEEDED before\n");
  EXPECT_EQ(Run("cancel j1").code, 0);
  CancelLeaves(JobStatus::RUNNING);
  EXPECT_EQ(Run("cancel j1").text, "j1 is not cancelled: its result exists already\n");
}

}  // namespace
}  // namespace liger::client
