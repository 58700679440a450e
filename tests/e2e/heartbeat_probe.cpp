#include "tests/e2e/heartbeat_probe.h"

#include <gtest/gtest.h>

#include <chrono>

#include "absl/time/clock.h"
#include "grpcpp/create_channel.h"
#include "liger/worker/v1/worker.grpc.pb.h"

namespace liger::e2e {

using worker::v1::CoordinatorMessage;
using worker::v1::WorkerMessage;

std::vector<absl::Duration> MeasureHeartbeats(const std::string& worker_address, int count,
                                              absl::Duration interval) {
  const auto stub = worker::v1::Fleet::NewStub(
      grpc::CreateChannel(worker_address, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(1));
  const auto stream = stub->Session(&context);
  WorkerMessage hello;
  hello.mutable_hello()->set_worker_id(kProbeWorkerId);
  hello.mutable_hello()->set_incarnation(absl::ToUnixMicros(absl::Now()));
  hello.mutable_hello()->set_boot_id("probe");
  hello.mutable_hello()->set_protocol_min(1);
  hello.mutable_hello()->set_protocol_max(1);
  CoordinatorMessage answer;
  EXPECT_TRUE(stream->Write(hello));
  EXPECT_TRUE(stream->Read(&answer) && answer.has_welcome()) << answer.DebugString();

  std::vector<absl::Duration> latencies;
  for (int seq = 1; seq <= count; ++seq) {
    WorkerMessage heartbeat;
    heartbeat.mutable_heartbeat()->set_seq(seq);
    heartbeat.mutable_heartbeat()->set_inventory_changed(seq % 10 == 0);
    const absl::Time sent = absl::Now();
    if (!stream->Write(heartbeat)) break;
    do {
      if (!stream->Read(&answer)) return latencies;
    } while (answer.heartbeat_ack().seq() != seq);
    latencies.push_back(absl::Now() - sent);
    absl::SleepFor(interval);
  }
  stream->WritesDone();
  context.TryCancel();
  stream->Finish();
  return latencies;
}

}  // namespace liger::e2e
