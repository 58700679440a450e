#include "tests/unit/agent/fake_coordinator.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "grpcpp/server_builder.h"

namespace liger::agent {

using worker::v1::Chunk;
using worker::v1::ChunkAck;
using worker::v1::CoordinatorMessage;
using worker::v1::TaskEvent;
using worker::v1::WorkerMessage;

namespace {

std::string Key(const trainer::v1::Ref& ref) {
  return absl::StrCat(ref.job_uid(), "/", ref.epoch(), "/", ref.task_id());
}

// The fake trainer's one publication is called "model".
CoordinatorMessage GrantMessage(const trainer::v1::Ref& ref, const std::string& output_uri) {
  CoordinatorMessage message;
  *message.mutable_publish_granted()->mutable_ref() = ref;
  message.mutable_publish_granted()->set_publication_id("model");
  message.mutable_publish_granted()->set_output_uri(output_uri.empty() ? ref.job_uid()
                                                                       : output_uri);
  return message;
}

}  // namespace

FakeCoordinator::FakeCoordinator(int port, Memory memory) : tasks_(std::move(memory)) {
  lease.set_heartbeat_seconds(0.1);
  lease.set_fence_seconds(1.5);
  lease.set_reassign_seconds(2);
  lease.set_orphan_timeout_seconds(60);
  grpc::ServerBuilder builder;
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddListeningPort(absl::StrCat("127.0.0.1:", port), grpc::InsecureServerCredentials(),
                           &port_);
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
}

FakeCoordinator::~FakeCoordinator() {
  CloseSessions();
  if (server_) server_->Shutdown(std::chrono::system_clock::now());
}

std::string FakeCoordinator::address() const { return absl::StrCat("127.0.0.1:", port_); }

void FakeCoordinator::SetAcknowledgeHeartbeats(bool on) {
  absl::MutexLock lock(&mutex_);
  acknowledge_heartbeats_ = on;
}

void FakeCoordinator::SetAcknowledgeEvents(bool on) {
  absl::MutexLock lock(&mutex_);
  acknowledge_events_ = on;
}

void FakeCoordinator::SetPublicationAnswer(PublicationAnswer answer) {
  absl::MutexLock lock(&mutex_);
  publication_answer_ = answer;
}

void FakeCoordinator::SetWelcome(bool on) {
  absl::MutexLock lock(&mutex_);
  welcome_ = on;
}

void FakeCoordinator::SetRefusal(grpc::Status refusal) {
  absl::MutexLock lock(&mutex_);
  refusal_ = std::move(refusal);
}

void FakeCoordinator::SetShip(bool on) {
  absl::MutexLock lock(&mutex_);
  ship_ = on;
}

void FakeCoordinator::SetVerdict(const std::string& job_uid, worker::v1::Verdict::Action action) {
  absl::MutexLock lock(&mutex_);
  verdicts_[job_uid] = action;
}

grpc::Status FakeCoordinator::Session(grpc::ServerContext* context, SessionStream* stream) {
  {
    absl::MutexLock lock(&mutex_);
    if (!refusal_.ok()) return refusal_;
    stream_ = stream;
    context_ = context;
  }
  WorkerMessage message;
  while (stream->Read(&message)) {
    absl::MutexLock lock(&mutex_);
    if (stream_ != stream) break;
    if (message.has_hello()) OnHello(message.hello());
    if (message.has_heartbeat()) OnHeartbeat(message.heartbeat());
    if (message.has_event()) OnEvent(message.event());
    if (message.has_prepared()) prepared_[Key(message.prepared().ref())] = message.prepared();
    if (message.has_refused()) refused_[Key(message.refused().ref())] = message.refused();
  }
  absl::MutexLock lock(&mutex_);
  if (stream_ == stream) {
    stream_ = nullptr;
    context_ = nullptr;
  }
  return grpc::Status::OK;
}

void FakeCoordinator::OnHello(const worker::v1::Hello& hello) {
  hellos_.push_back(hello);
  if (!welcome_) return;
  CoordinatorMessage message;
  auto* welcome = message.mutable_welcome();
  welcome->set_session_id(absl::StrCat("session-", hellos_.size()));
  welcome->set_term(term);
  *welcome->mutable_lease() = lease;
  for (const auto& owned : hello.owned()) {
    auto* verdict = welcome->add_verdicts();
    *verdict->mutable_ref() = owned.ref();
    auto it = verdicts_.find(owned.ref().job_uid());
    verdict->set_action(it == verdicts_.end() ? worker::v1::Verdict::ADOPT : it->second);
    verdict->set_ack_seq(tasks_[Key(owned.ref())].acknowledged);
  }
  stream_->Write(message);
}

void FakeCoordinator::OnHeartbeat(const worker::v1::Heartbeat& heartbeat) {
  heartbeats_.push_back(heartbeat);
  if (!acknowledge_heartbeats_) return;
  CoordinatorMessage message;
  message.mutable_heartbeat_ack()->set_seq(heartbeat.seq());
  stream_->Write(message);
}

void FakeCoordinator::OnEvent(const TaskEvent& event) {
  Task& task = tasks_[Key(event.ref())];
  task.received.push_back(event);
  if (acknowledge_events_) {
    task.acknowledged = std::max(task.acknowledged, event.seq());
    CoordinatorMessage ack;
    *ack.mutable_event_ack()->mutable_ref() = event.ref();
    ack.mutable_event_ack()->set_through_seq(task.acknowledged);
    stream_->Write(ack);
  }
  if (!event.has_publish_request()) return;
  if (publication_answer_ == PublicationAnswer::kGrant)
    stream_->Write(GrantMessage(event.ref(), ""));
  if (publication_answer_ == PublicationAnswer::kDeny) {
    CoordinatorMessage answer;
    *answer.mutable_publish_denied()->mutable_ref() = event.ref();
    answer.mutable_publish_denied()->set_publication_id("model");
    answer.mutable_publish_denied()->set_reason("the epoch is stale");
    stream_->Write(answer);
  }
}

void FakeCoordinator::Grant(const trainer::v1::Ref& ref, const std::string& output_uri) {
  Send(GrantMessage(ref, output_uri));
}

grpc::Status FakeCoordinator::Ship(grpc::ServerContext*, ShipStream* stream) {
  {
    absl::MutexLock lock(&mutex_);
    if (!ship_) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "not now");
  }
  Chunk chunk;
  while (stream->Read(&chunk)) {
    ChunkAck ack;
    {
      absl::MutexLock lock(&mutex_);
      Task& task = tasks_[Key(chunk.ref())];
      const int rank = chunk.has_log()      ? chunk.log().rank()
                       : chunk.has_resume() ? chunk.resume().rank()
                                            : 0;
      std::string& log = task.logs[rank];
      if (chunk.has_log()) {
        EXPECT_EQ(chunk.log().offset(), static_cast<int64_t>(log.size()));
        log += chunk.log().data();
      }
      for (const auto& sample : chunk.metrics().samples()) {
        task.steps.push_back(sample.step().step());
      }
      *ack.mutable_ref() = chunk.ref();
      ack.set_rank(rank);
      ack.set_log_offset(static_cast<int64_t>(log.size()));
      ack.set_through_step(task.steps.empty() ? 0 : task.steps.back());
    }
    stream->Write(ack);
  }
  return grpc::Status::OK;
}

void FakeCoordinator::Send(const CoordinatorMessage& message) {
  absl::MutexLock lock(&mutex_);
  ASSERT_NE(stream_, nullptr) << "no session";
  stream_->Write(message);
}

void FakeCoordinator::Prepare(const trainer::v1::Ref& ref, trainer::v1::TaskKind kind,
                              const std::vector<std::string>& devices) {
  CoordinatorMessage message;
  *message.mutable_prepare()->mutable_ref() = ref;
  message.mutable_prepare()->set_kind(kind);
  message.mutable_prepare()->mutable_gang()->set_nnodes(1);
  message.mutable_prepare()->mutable_gang()->set_world_size(
      std::max<int>(1, static_cast<int>(devices.size())));
  for (size_t i = 0; i < devices.size(); ++i) {
    auto* rank = message.mutable_prepare()->add_local_ranks();
    rank->set_rank(static_cast<int32_t>(i));
    rank->set_device_uuid(devices[i]);
  }
  message.mutable_prepare()->set_deadline_seconds(30);
  Send(message);
}

void FakeCoordinator::Run(const trainer::v1::Ref& ref, const v1::JobSpec& spec,
                          trainer::v1::TaskKind kind, int ranks) {
  std::vector<std::string> devices;
  if (kind == trainer::v1::TASK_KIND_TRAIN) {
    const worker::v1::Hello hello = WaitForHello();
    for (int i = 0; i < ranks; ++i) devices.push_back(hello.devices(i).uuid());
  }
  Prepare(ref, kind, devices);
  const worker::v1::Prepared prepared = WaitForPrepared(ref);
  CoordinatorMessage message;
  *message.mutable_start()->mutable_ref() = ref;
  *message.mutable_start()->mutable_master() = prepared.master();
  *message.mutable_start()->mutable_resolved_spec() = spec;
  Send(message);
}

void FakeCoordinator::Stop(const trainer::v1::Ref& ref, double grace_seconds) {
  CoordinatorMessage message;
  *message.mutable_control()->mutable_ref() = ref;
  message.mutable_control()->mutable_command()->set_command_id("stop-1");
  message.mutable_control()->mutable_command()->mutable_stop()->set_grace_seconds(grace_seconds);
  message.mutable_control()->mutable_command()->mutable_stop()->set_reason("cancelled");
  Send(message);
}

void FakeCoordinator::Pause(const trainer::v1::Ref& ref) {
  CoordinatorMessage message;
  *message.mutable_control()->mutable_ref() = ref;
  message.mutable_control()->mutable_command()->set_command_id("pause-1");
  message.mutable_control()->mutable_command()->mutable_pause();
  Send(message);
}

void FakeCoordinator::CloseSessions() {
  absl::MutexLock lock(&mutex_);
  if (context_ != nullptr) context_->TryCancel();
}

bool FakeCoordinator::WaitUntil(const std::function<bool()>& condition, absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  while (absl::Now() < deadline) {
    if (condition()) return true;
    absl::SleepFor(absl::Milliseconds(10));
  }
  return condition();
}

worker::v1::Hello FakeCoordinator::WaitForHello(int count) {
  EXPECT_TRUE(WaitUntil([&] { return hellos() >= count; })) << "no Hello";
  absl::MutexLock lock(&mutex_);
  return hellos_.empty() ? worker::v1::Hello() : hellos_.back();
}

worker::v1::Prepared FakeCoordinator::WaitForPrepared(const trainer::v1::Ref& ref) {
  EXPECT_TRUE(WaitUntil([&] {
    absl::MutexLock lock(&mutex_);
    return prepared_.contains(Key(ref));
  })) << "no Prepared";
  absl::MutexLock lock(&mutex_);
  return prepared_[Key(ref)];
}

void FakeCoordinator::ForgetPrepared() {
  absl::MutexLock lock(&mutex_);
  prepared_.clear();
}

worker::v1::Refused FakeCoordinator::WaitForRefused(const trainer::v1::Ref& ref) {
  EXPECT_TRUE(WaitUntil([&] {
    absl::MutexLock lock(&mutex_);
    return refused_.contains(Key(ref));
  })) << "no Refused";
  absl::MutexLock lock(&mutex_);
  return refused_[Key(ref)];
}

worker::v1::Exited FakeCoordinator::WaitForExited(const trainer::v1::Ref& ref) {
  std::optional<worker::v1::Exited> exited;
  EXPECT_TRUE(WaitUntil([&] {
    for (const TaskEvent& event : Received(ref)) {
      if (event.has_exited()) exited = event.exited();
    }
    return exited.has_value();
  })) << "no Exited";
  return exited.value_or(worker::v1::Exited());
}

void FakeCoordinator::WaitForHeartbeats(int count) {
  size_t before;
  {
    absl::MutexLock lock(&mutex_);
    before = heartbeats_.size();
  }
  EXPECT_TRUE(WaitUntil([&] {
    absl::MutexLock lock(&mutex_);
    return heartbeats_.size() >= before + static_cast<size_t>(count);
  })) << "no heartbeats";
}

std::vector<TaskEvent> FakeCoordinator::Received(const trainer::v1::Ref& ref) {
  absl::MutexLock lock(&mutex_);
  return tasks_[Key(ref)].received;
}

std::vector<TaskEvent> FakeCoordinator::Events(const trainer::v1::Ref& ref) {
  std::map<int64_t, TaskEvent> by_seq;
  for (const TaskEvent& event : Received(ref)) {
    auto [it, fresh] = by_seq.emplace(event.seq(), event);
    if (!fresh) {
      EXPECT_EQ(it->second.SerializeAsString(), event.SerializeAsString());
    }
  }
  std::vector<TaskEvent> events;
  for (auto& [seq, event] : by_seq) events.push_back(event);
  return events;
}

std::string FakeCoordinator::Log(const trainer::v1::Ref& ref, int rank) {
  absl::MutexLock lock(&mutex_);
  return tasks_[Key(ref)].logs[rank];
}

std::vector<int64_t> FakeCoordinator::Steps(const trainer::v1::Ref& ref) {
  absl::MutexLock lock(&mutex_);
  return tasks_[Key(ref)].steps;
}

FakeCoordinator::Memory FakeCoordinator::memory() {
  absl::MutexLock lock(&mutex_);
  return tasks_;
}

int FakeCoordinator::hellos() {
  absl::MutexLock lock(&mutex_);
  return static_cast<int>(hellos_.size());
}

worker::v1::Heartbeat FakeCoordinator::last_heartbeat() {
  absl::MutexLock lock(&mutex_);
  return heartbeats_.empty() ? worker::v1::Heartbeat() : heartbeats_.back();
}

}  // namespace liger::agent
