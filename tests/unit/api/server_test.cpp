// The server around the services: ports, locks, TLS, health, reflection,
// metrics, shutdown.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/impl/codegen/client_unary_call.h"
#include "gtest/gtest.h"
#include "server/api/status.h"
#include "server/coordinator/health.h"
#include "server/rpc/grpc_server.h"
#include "tests/unit/auth/certificates.h"
#include "tests/unit/coordinator/cluster.h"

namespace liger::testing {
namespace {

using liger::server::CheckHealth;
using liger::server::Coordinator;
using liger::server::HealthQuery;
using liger::server::kReadinessService;
using liger::v1::JobStatus;
using ::testing::HasSubstr;
using ::testing::Not;

// A body in, a body out, for services whose stubs are not at hand.
grpc::Status RawUnary(const std::string& address, const std::string& method,
                      const std::string& request, std::string* response) {
  auto channel = grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(5)));
  grpc::CompletionQueue queue;
  const grpc::Slice slice(request);
  auto call = stub.PrepareUnaryCall(&context, method, grpc::ByteBuffer(&slice, 1), &queue);
  call->StartCall();
  grpc::ByteBuffer buffer;
  grpc::Status status;
  call->Finish(&buffer, &status, nullptr);
  void* tag;
  bool ok;
  queue.Next(&tag, &ok);
  std::vector<grpc::Slice> slices;
  if (status.ok() && buffer.Dump(&slices).ok()) {
    for (const grpc::Slice& s : slices) {
      response->append(reinterpret_cast<const char*>(s.begin()), s.size());
    }
  }
  return status;
}

// The text of /metrics.
std::string Scrape(const std::string& address) {
  const std::vector<std::string> parts = absl::StrSplit(address, ':');
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(std::stoi(parts[1])));
  inet_pton(AF_INET, parts[0].c_str(), &to.sin_addr);
  EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)), 0);
  const std::string request = "GET /metrics HTTP/1.0\r\n\r\n";
  EXPECT_EQ(write(fd, request.data(), request.size()), static_cast<ssize_t>(request.size()));
  std::string text;
  char buffer[4096];
  for (ssize_t n; (n = read(fd, buffer, sizeof(buffer))) > 0;) text.append(buffer, n);
  close(fd);
  return text;
}

Cluster::Options OptionsFor(const std::string& data_dir) {
  Cluster::Options options;
  options.data_dir = data_dir;
  options.listen = options.worker_listen = "127.0.0.1:0";
  options.metrics_listen = "";
  return options;
}

std::string StartError(const Cluster::Options& options) {
  const auto started = Coordinator::Start(options);
  EXPECT_FALSE(started.ok());
  return std::string(started.status().message());
}

TEST(ServerTest, HealthIsServedOnBothPorts) {
  Cluster cluster;
  for (const std::string& address :
       {cluster.coordinator().api_address(), cluster.coordinator().worker_address()}) {
    std::string response;
    // HealthCheckRequest{} -> HealthCheckResponse{status: SERVING}
    ASSERT_TRUE(RawUnary(address, "/grpc.health.v1.Health/Check", "", &response).ok());
    EXPECT_EQ(response, std::string("\x08\x01"));
    // Once the store has answered, which takes a tick.
    const HealthQuery ready{.address = address, .service = kReadinessService};
    const absl::Time deadline = absl::Now() + absl::Seconds(10);
    while (!CheckHealth(ready).ok() && absl::Now() < deadline)
      absl::SleepFor(absl::Milliseconds(20));
    EXPECT_EQ(CheckHealth(ready), absl::OkStatus());
  }
  const absl::Status none = CheckHealth(
      {.address = cluster.coordinator().api_address(), .service = "nothing of that name"});
  EXPECT_EQ(none.code(), absl::StatusCode::kUnavailable);
}

TEST(ServerTest, ReflectionListsTheServices) {
  Cluster cluster;
  std::string response;
  // ServerReflectionRequest{list_services: "*"}; one message, so unary will do.
  const grpc::Status status =
      RawUnary(cluster.coordinator().api_address(),
               "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
               std::string("\x3a\x01*", 3), &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_THAT(response, HasSubstr("liger.v1.FineTuning"));
  EXPECT_THAT(response, Not(HasSubstr("liger.worker.v1.Fleet")));
}

void ServeMetrics(Cluster::Options* options) { options->metrics_listen = "127.0.0.1:0"; }

TEST(ServerTest, APortInUseIsOneClearError) {
  Cluster cluster(ServeMetrics);
  Cluster::Options options = OptionsFor(cluster.data_dir() + "/other");
  options.listen = cluster.coordinator().api_address();
  EXPECT_THAT(StartError(options), HasSubstr(absl::StrCat("cannot listen on ", options.listen)));
  options.listen = "127.0.0.1:0";
  options.worker_listen = cluster.coordinator().worker_address();
  EXPECT_THAT(StartError(options), HasSubstr("--worker-listen"));
  options.worker_listen = "127.0.0.1:0";
  options.metrics_listen = cluster.coordinator().metrics_address();
  EXPECT_THAT(StartError(options), HasSubstr("--metrics-listen"));
}

TEST(ServerTest, ASecondCoordinatorOnTheFolderIsRefused) {
  Cluster cluster;
  EXPECT_THAT(StartError(OptionsFor(cluster.data_dir())), HasSubstr(cluster.data_dir()));
}

TEST(ServerTest, PlaintextForOtherMachinesNeedsInsecure) {
  Cluster::Options options = OptionsFor(::testing::TempDir() + "/insecure");
  options.listen = "0.0.0.0:0";
  EXPECT_THAT(StartError(options), HasSubstr("--insecure"));
  options.listen = "127.0.0.1:0";
  options.metrics_listen = "0.0.0.0:0";
  EXPECT_THAT(StartError(options), HasSubstr("--insecure"));
}

TEST(ServerTest, TlsWithClientCertificates) {
  const std::string dir = ::testing::TempDir();
  const Certificate server = MakeSelfSigned("localhost");
  const Certificate alice = MakeSelfSigned("alice");
  std::filesystem::remove_all(dir + "/tls");
  Cluster::Options options = OptionsFor(dir + "/tls");
  options.security.tls_cert = WriteTemp(dir, "server.pem", server.cert_pem);
  options.security.tls_key = WriteTemp(dir, "server.key", server.key_pem);
  options.security.tls_client_ca = WriteTemp(dir, "alice.pem", alice.cert_pem);
  auto coordinator = Coordinator::Start(options);
  ASSERT_TRUE(coordinator.ok()) << coordinator.status();

  const auto call = [&](const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
    auto stub = liger::v1::FineTuning::NewStub(
        grpc::CreateChannel((*coordinator)->api_address(), credentials));
    liger::v1::CreateJobRequest request;
    *request.mutable_spec() = TinySpec("tls-job");
    liger::v1::CreateJobResponse response;
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(5)));
    return stub->CreateJob(&context, request, &response);
  };
  EXPECT_FALSE(call(grpc::InsecureChannelCredentials()).ok());
  EXPECT_FALSE(call(grpc::SslCredentials({server.cert_pem, "", ""})).ok());
  EXPECT_FALSE(call(grpc::SslCredentials({server.cert_pem, server.key_pem, server.cert_pem})).ok());
  const grpc::Status served =
      call(grpc::SslCredentials({server.cert_pem, alice.key_pem, alice.cert_pem}));
  EXPECT_TRUE(served.ok()) << served.error_message();

  // The workers' port is as closed.
  const auto session = [&](const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
    auto stub = liger::worker::v1::Fleet::NewStub(
        grpc::CreateChannel((*coordinator)->worker_address(), credentials));
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(5)));
    auto stream = stub->Session(&context);
    liger::worker::v1::WorkerMessage hello;
    hello.mutable_hello()->set_worker_id("w1");
    hello.mutable_hello()->set_incarnation(1);
    hello.mutable_hello()->set_protocol_min(1);
    hello.mutable_hello()->set_protocol_max(1);
    stream->Write(hello);
    liger::worker::v1::CoordinatorMessage message;
    const bool welcomed = stream->Read(&message) && message.has_welcome();
    context.TryCancel();
    return welcomed;
  };
  EXPECT_FALSE(session(grpc::InsecureChannelCredentials()));
  EXPECT_FALSE(session(grpc::SslCredentials({server.cert_pem, "", ""})));
  EXPECT_TRUE(session(grpc::SslCredentials({server.cert_pem, alice.key_pem, alice.cert_pem})));

  // The certificate's name is the actor of what was done.
  const auto events = (*coordinator)
                          ->store()
                          .ReadAndWait<std::vector<liger::v1::JobEvent>>(
                              [](const liger::server::ReadView& view)
                                  -> absl::StatusOr<std::vector<liger::v1::JobEvent>> {
                                return view.EventsSince("default", 0, 10);
                              });
  ASSERT_TRUE(events.ok());
  ASSERT_FALSE(events->empty());
  EXPECT_EQ((*events)[0].actor(), "user:alice");
}

TEST(ServerTest, MetricsFollowTheJobsAndTheRpcs) {
  Cluster cluster(ServeMetrics);
  auto worker = cluster.MakeWorker();
  ASSERT_TRUE(worker->Connect().ok());
  ASSERT_TRUE(cluster.Submit("job").ok());
  const auto start = worker->ExpectTrain();
  worker->SendStarted(start.ref());
  worker->SendProgress(start.ref(), 5, 1.25);
  cluster.WaitUntil("job", [](const auto& j) { return j.status().progress().step() == 5; });
  cluster.Get("nobody").status().IgnoreError();
  absl::SleepFor(absl::Milliseconds(1300));
  const std::string text = Scrape(cluster.coordinator().metrics_address());
  const std::string labels =
      absl::StrCat("{job_name=\"job\",job_uid=\"", cluster.Get("job")->uid(), "\"}");
  EXPECT_THAT(text, HasSubstr(absl::StrCat("liger_job_step", labels, " 5")));
  EXPECT_THAT(text, HasSubstr(absl::StrCat("liger_job_tokens_total", labels, " 5000")));
  EXPECT_THAT(text, HasSubstr(absl::StrCat("liger_job_loss", labels, " 1.25")));
  EXPECT_THAT(text, HasSubstr("liger_jobs{state=\"RUNNING\"} 1"));
  EXPECT_THAT(text, HasSubstr("liger_workers{state=\"READY\"} 1"));
  EXPECT_THAT(text, HasSubstr("liger_queue_wait_seconds_count 1"));
  EXPECT_THAT(text, HasSubstr("grpc_server_handled_total{grpc_code=\"NotFound\","
                              "grpc_method=\"GetJob\",grpc_service=\"liger.v1.FineTuning\","
                              "grpc_type=\"unary\"} 1"));
  EXPECT_THAT(text, HasSubstr("grpc_server_handling_seconds_count{grpc_method=\"CreateJob\","
                              "grpc_service=\"liger.v1.FineTuning\"} 1"));
}

TEST(ServerTest, AWorkerThatDrainsIsCountedAsSuch) {
  Cluster cluster(ServeMetrics);
  auto worker = cluster.MakeWorker();
  ASSERT_TRUE(worker->Connect().ok());
  worker->Drain();
  absl::SleepFor(absl::Milliseconds(1300));
  const std::string text = Scrape(cluster.coordinator().metrics_address());
  EXPECT_THAT(text, HasSubstr("liger_workers{state=\"DRAINING\"} 1"));
  EXPECT_THAT(text, Not(HasSubstr("liger_workers{state=\"READY\"} 1")));
}

TEST(ServerTest, CountersResumeFromTheStore) {
  Cluster cluster(ServeMetrics);
  auto worker = cluster.MakeWorker();
  ASSERT_TRUE(worker->Connect().ok());
  ASSERT_TRUE(cluster.Submit("job").ok());
  const auto start = worker->ExpectTrain();
  worker->SendStarted(start.ref());
  worker->SendProgress(start.ref(), 5, 1.25);
  cluster.WaitUntil("job", [](const auto& j) { return j.status().progress().step() == 5; });
  worker->Disconnect();
  cluster.StopCoordinator();
  cluster.StartCoordinator();
  const std::string text = Scrape(cluster.coordinator().metrics_address());
  EXPECT_THAT(text, HasSubstr(absl::StrCat("liger_job_tokens_total{job_name=\"job\",job_uid=\"",
                                           cluster.Get("job")->uid(), "\"} 5000")));
}

TEST(ServerTest, AJobThatHasJustEndedKeepsItsSeriesOverARestart) {
  Cluster cluster(ServeMetrics);
  auto worker = cluster.MakeWorker();
  ASSERT_TRUE(worker->Connect().ok());
  ASSERT_TRUE(cluster.Submit("job").ok());
  const auto ref = worker->ExpectTrain().ref();
  worker->SendStarted(ref);
  worker->SendProgress(ref, 5, 1.25);
  worker->SendPublish(ref, "p1");
  worker->SendExit(ref);
  cluster.WaitFor("job", JobStatus::SUCCEEDED);
  worker->Disconnect();
  cluster.StopCoordinator();
  cluster.StartCoordinator();
  EXPECT_THAT(Scrape(cluster.coordinator().metrics_address()),
              HasSubstr(absl::StrCat("liger_job_tokens_total{job_name=\"job\",job_uid=\"",
                                     cluster.Get("job")->uid(), "\"} 5000")));
}

TEST(ServerTest, ShutdownIsQuickWithEverythingOpen) {
  Cluster cluster(ServeMetrics);
  auto worker = cluster.MakeWorker();
  ASSERT_TRUE(worker->Connect().ok());
  ASSERT_TRUE(cluster.Submit("job").ok());
  liger::v1::WatchJobsRequest request;
  grpc::ClientContext context;
  auto watch = cluster.api().WatchJobs(&context, request);
  liger::v1::WatchJobsResponse response;
  ASSERT_TRUE(watch->Read(&response));
  const absl::Time begin = absl::Now();
  cluster.coordinator().Shutdown();
  EXPECT_LT(absl::Now() - begin, absl::Seconds(5));
  while (watch->Read(&response)) {
  }
  watch->Finish();
}

}  // namespace
}  // namespace liger::testing
