#include "tests/unit/coordinator/fake_worker.h"

#include <algorithm>

#include "absl/time/clock.h"
#include "grpcpp/create_channel.h"
#include "gtest/gtest.h"
#include "server/api/status.h"

namespace liger::testing {

using liger::trainer::v1::Ref;
using liger::worker::v1::CoordinatorMessage;
using liger::worker::v1::Hello;
using liger::worker::v1::OwnedTask;
using liger::worker::v1::TaskEvent;
using liger::worker::v1::WorkerMessage;

namespace {

std::string KeyOf(const Ref& ref) {
  return ref.job_uid() + "/" + std::to_string(ref.epoch()) + "/" + ref.task_id();
}

}  // namespace

std::unique_ptr<liger::worker::v1::Fleet::Stub> FleetStub(const std::string& address) {
  return liger::worker::v1::Fleet::NewStub(
      grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
}

FakeWorker::FakeWorker(const std::string& address, FakeWorkerOptions options)
    : options_(std::move(options)), stub_(FleetStub(address)) {}

FakeWorker::~FakeWorker() { Disconnect(); }

Hello FakeWorker::MakeHello(const std::vector<OwnedTask>& owned) const {
  Hello hello;
  hello.set_worker_id(options_.worker_id);
  hello.set_incarnation(options_.incarnation);
  hello.set_boot_id("boot");
  hello.set_protocol_min(1);
  hello.set_protocol_max(1);
  hello.set_build("test");
  hello.set_advertise_address("127.0.0.1");
  hello.set_host_name(options_.host_name);
  hello.set_model_root("/models");
  hello.set_dataset_root("/datasets");
  hello.set_output_root("/outputs");
  for (int i = 0; i < options_.cpu_slots; ++i) {
    auto* device = hello.add_devices();
    device->set_uuid(options_.worker_id + "-cpu-" + std::to_string(i));
    device->set_kind(liger::v1::DEVICE_KIND_CPU);
    device->set_memory_bytes(int64_t{8} << 30);
  }
  hello.mutable_inventory()->Assign(options_.inventory.begin(), options_.inventory.end());
  hello.mutable_owned()->Assign(owned.begin(), owned.end());
  return hello;
}

absl::Status FakeWorker::Connect(const std::vector<OwnedTask>& owned) {
  Disconnect();
  {
    absl::MutexLock lock(&mutex_);
    closed_ = false;
    silent_ = false;
    inbox_.clear();
    heartbeat_sent_.clear();
  }
  context_ = std::make_unique<grpc::ClientContext>();
  stream_ = stub_->Session(context_.get());
  WorkerMessage message;
  *message.mutable_hello() = MakeHello(owned);
  Send(message);
  reader_ = std::thread([this] { ReadLoop(); });
  if (!Take(CoordinatorMessage::kWelcome).has_value()) return WaitClosed();
  heartbeats_ = std::thread([this] { HeartbeatLoop(); });
  return absl::OkStatus();
}

void FakeWorker::Disconnect() {
  StopHeartbeats();
  if (context_ != nullptr) context_->TryCancel();
  if (reader_.joinable()) reader_.join();
  if (heartbeats_.joinable()) heartbeats_.join();
  stream_.reset();
  context_.reset();
}

void FakeWorker::StopHeartbeats() {
  absl::MutexLock lock(&mutex_);
  silent_ = true;
}

void FakeWorker::Drain() {
  {
    absl::MutexLock lock(&mutex_);
    draining_ = true;
  }
  WorkerMessage message;
  message.mutable_heartbeat()->set_draining(true);
  Send(message);
}

absl::Status FakeWorker::WaitClosed(absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  if (!mutex_.AwaitWithTimeout(absl::Condition(&closed_), timeout)) {
    return absl::DeadlineExceededError("the session is still open");
  }
  return close_status_;
}

// ---- receiving

void FakeWorker::ReadLoop() {
  CoordinatorMessage message;
  while (stream_->Read(&message)) {
    if (message.has_prepare()) OnPrepare(message.prepare());
    bool check = false;
    {
      absl::MutexLock lock(&mutex_);
      if (message.has_heartbeat_ack()) {
        const auto sent = heartbeat_sent_.find(message.heartbeat_ack().seq());
        if (sent != heartbeat_sent_.end()) {
          worst_heartbeat_ = std::max(worst_heartbeat_, absl::Now() - sent->second);
          ++acknowledged_;
        }
        continue;
      }
      check = options_.auto_check && message.has_start() &&
              kinds_[KeyOf(message.start().ref())] == liger::trainer::v1::TASK_KIND_CHECK;
      if (!check) inbox_[message.message_case()].push_back(message);
    }
    if (check) PassCheck(message.start().ref());
  }
  const absl::Status status = liger::server::FromGrpc(stream_->Finish());
  absl::MutexLock lock(&mutex_);
  closed_ = true;
  close_status_ = status;
}

void FakeWorker::OnPrepare(const liger::worker::v1::Prepare& prepare) {
  {
    absl::MutexLock lock(&mutex_);
    kinds_[KeyOf(prepare.ref())] = prepare.kind();
  }
  if (!options_.auto_prepare) return;
  WorkerMessage reply;
  *reply.mutable_prepared()->mutable_ref() = prepare.ref();
  reply.mutable_prepared()->mutable_master()->set_addr("127.0.0.1");
  reply.mutable_prepared()->mutable_master()->set_port(29500);
  Send(reply);
}

void FakeWorker::PassCheck(const Ref& ref) {
  TaskEvent event;
  event.mutable_check_result()->add_checks_run("model");
  event.mutable_check_result()->add_checks_run("data");
  SendEvent(ref, event);
  SendExit(ref);
}

std::optional<FakeWorker::Message> FakeWorker::Take(Case kind, absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  const auto ready = [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return closed_ || !inbox_[kind].empty();
  };
  mutex_.AwaitWithTimeout(absl::Condition(&ready), timeout);
  std::deque<Message>& messages = inbox_[kind];
  if (messages.empty()) return std::nullopt;
  Message message = std::move(messages.front());
  messages.pop_front();
  return message;
}

FakeWorker::Message FakeWorker::Expect(Case kind, absl::Duration timeout) {
  std::optional<Message> message = Take(kind, timeout);
  EXPECT_TRUE(message.has_value()) << options_.worker_id << " got no message of case " << kind;
  return message.value_or(Message());
}

liger::worker::v1::Start FakeWorker::ExpectTrain(absl::Duration timeout) {
  return Expect(Message::kStart, timeout).start();
}

// ---- sending

void FakeWorker::Send(const WorkerMessage& message) {
  absl::MutexLock lock(&write_mutex_);
  if (stream_ != nullptr) stream_->Write(message);
}

void FakeWorker::HeartbeatLoop() {
  for (int64_t seq = 1;; ++seq) {
    WorkerMessage message;
    message.mutable_heartbeat()->set_seq(seq);
    {
      absl::MutexLock lock(&mutex_);
      if (silent_ || closed_) return;
      heartbeat_sent_[seq] = absl::Now();
      message.mutable_heartbeat()->set_draining(draining_);
    }
    Send(message);
    absl::SleepFor(options_.heartbeat);
  }
}

void FakeWorker::SendEvent(const Ref& ref, TaskEvent event, int64_t seq) {
  {
    absl::MutexLock lock(&mutex_);
    int64_t& last = seqs_[KeyOf(ref)];
    if (seq == 0) seq = last + 1;
    last = std::max(last, seq);
  }
  *event.mutable_ref() = ref;
  event.set_seq(seq);
  event.mutable_time()->set_seconds(absl::ToUnixSeconds(absl::Now()));
  WorkerMessage message;
  *message.mutable_event() = std::move(event);
  Send(message);
}

void FakeWorker::SendStarted(const Ref& ref) {
  TaskEvent event;
  auto* ran = event.mutable_started()->mutable_ready()->add_kernels_ran();
  ran->set_op("rms_norm");
  ran->set_path("cpu");
  SendEvent(ref, event);
}

void FakeWorker::SendProgress(const Ref& ref, int64_t step, double loss) {
  TaskEvent event;
  auto* report = event.mutable_progress()->mutable_step();
  report->set_step(step);
  report->set_max_steps(100);
  report->set_tokens_total(step * 1000);
  report->set_step_seconds(0.5);
  report->set_tokens_per_second(2000);
  (*report->mutable_values())["loss"] = loss;
  SendEvent(ref, event);
}

void FakeWorker::SendPublish(const Ref& ref, const std::string& publication_id,
                             const std::string& kind, int64_t step) {
  TaskEvent event;
  auto* saved = event.mutable_publish_request()->mutable_saved();
  saved->set_publication_id(publication_id);
  saved->set_kind(kind);
  saved->set_step(step);
  saved->set_dir(publication_id);
  saved->set_manifest_digest("sha256:" + std::string(64, 'a'));
  saved->set_bytes(1234);
  SendEvent(ref, event);
}

void FakeWorker::SendExit(const Ref& ref) {
  TaskEvent event;
  event.mutable_exited()->add_local_ranks();
  SendEvent(ref, event);
}

void FakeWorker::SendPaused(const Ref& ref) {
  TaskEvent event;
  event.mutable_exited()->add_local_ranks()->set_exit_code(7);
  event.mutable_exited()->set_paused(true);
  SendEvent(ref, event);
}

void FakeWorker::SendCancelled(const Ref& ref) {
  TaskEvent event;
  event.mutable_exited()->add_local_ranks();
  event.mutable_exited()->set_cancelled(true);
  SendEvent(ref, event);
}

void FakeWorker::SendFailure(const Ref& ref, liger::v1::FailureClass failure_class,
                             const std::string& message) {
  TaskEvent event;
  event.mutable_exited()->add_local_ranks()->set_exit_code(1);
  event.mutable_exited()->mutable_failure()->set_class_(failure_class);
  event.mutable_exited()->mutable_failure()->set_message(message);
  SendEvent(ref, event);
}

void FakeWorker::Succeed(const Ref& ref) {
  SendStarted(ref);
  SendPublish(ref, "p1");
  EXPECT_EQ(Expect(Message::kPublishGranted).publish_granted().publication_id(), "p1");
  SendExit(ref);
}

OwnedTask FakeWorker::Owned(const Ref& ref, bool running) {
  OwnedTask owned;
  *owned.mutable_ref() = ref;
  owned.set_phase(liger::trainer::v1::PHASE_TRAINING);
  owned.set_running(running);
  absl::MutexLock lock(&mutex_);
  owned.set_last_event_seq(seqs_[KeyOf(ref)]);
  return owned;
}

absl::Duration FakeWorker::worst_heartbeat() const {
  absl::MutexLock lock(&mutex_);
  return worst_heartbeat_;
}

int64_t FakeWorker::heartbeats_acknowledged() const {
  absl::MutexLock lock(&mutex_);
  return acknowledged_;
}

}  // namespace liger::testing
