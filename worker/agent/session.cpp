#include "worker/agent/session.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/time/clock.h"

namespace liger::agent {

using worker::v1::CoordinatorMessage;
using worker::v1::WorkerMessage;

namespace {

constexpr absl::Duration kFirstBackoff = absl::Milliseconds(200);
// Before a coordinator has said what its lease is.
constexpr absl::Duration kLongestBackoff = absl::Seconds(5);

// After it the call is made all the same, and says why there is no connection.
constexpr absl::Duration kConnectWait = absl::Seconds(2);
constexpr absl::Duration kConnectWaitSlice = absl::Milliseconds(100);

absl::Status FromGrpc(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

}  // namespace

Session::Session(std::shared_ptr<grpc::Channel> channel, Callbacks callbacks)
    : channel_(std::move(channel)),
      stub_(worker::v1::Fleet::NewStub(channel_)),
      callbacks_(std::move(callbacks)),
      backoff_(kFirstBackoff),
      longest_backoff_(kLongestBackoff),
      thread_([this] { Run(); }) {}

Session::~Session() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    if (context_ != nullptr) context_->TryCancel();
  }
  thread_.join();
}

void Session::Send(int64_t stream_id, WorkerMessage message) {
  absl::MutexLock lock(&mutex_);
  if (stream_over_ || stream_id != stream_id_) return;
  outgoing_.push_back(std::move(message));
}

void Session::Close(int64_t stream_id) {
  absl::MutexLock lock(&mutex_);
  if (stream_id == stream_id_ && context_ != nullptr) context_->TryCancel();
}

void Session::ResetBackoff(absl::Duration longest) {
  absl::MutexLock lock(&mutex_);
  backoff_ = kFirstBackoff;
  longest_backoff_ = std::clamp(longest, kFirstBackoff, kLongestBackoff);
}

void Session::Flush(absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(absl::Condition(this, &Session::Flushed), timeout);
}

void Session::Run() {
  for (int64_t stream_id = 1;; ++stream_id) {
    const absl::Status ended = Serve(stream_id);
    callbacks_.closed(stream_id, ended);
    const absl::Duration wait = NextBackoff();
    {
      absl::MutexLock lock(&mutex_);
      if (mutex_.AwaitWithTimeout(absl::Condition(&stopping_), wait)) return;
    }
    AwaitConnection();
  }
}

void Session::AwaitConnection() {
  // gRPC's synchronous API notices that a connection came about only while a
  // thread waits in it; without this one, each attempt runs into its timeout.
  const absl::Time give_up = absl::Now() + kConnectWait;
  while (absl::Now() < give_up) {
    {
      absl::MutexLock lock(&mutex_);
      if (stopping_) return;
    }
    if (channel_->WaitForConnected(absl::ToChronoTime(absl::Now() + kConnectWaitSlice))) return;
  }
}

absl::Status Session::Serve(int64_t stream_id) {
  grpc::ClientContext context;
  {
    absl::MutexLock lock(&mutex_);
    if (stopping_) return absl::CancelledError("stopping");
    stream_id_ = stream_id;
    context_ = &context;
    stream_over_ = false;
    outgoing_.clear();
  }
  std::unique_ptr<Stream> stream = stub_->Session(&context);
  std::thread writer([&] { WriteLoop(*stream); });
  callbacks_.opened(stream_id);
  CoordinatorMessage message;
  while (stream->Read(&message)) callbacks_.received(stream_id, std::move(message));
  // The coordinator's reason, which a TryCancel would hide. Then the call is
  // over, so a writer that flow control blocked goes on.
  const grpc::Status status = stream->Finish();
  {
    absl::MutexLock lock(&mutex_);
    stream_over_ = true;
  }
  writer.join();
  {
    absl::MutexLock lock(&mutex_);
    context_ = nullptr;
  }
  return FromGrpc(status);
}

void Session::WriteLoop(Stream& stream) {
  while (true) {
    WorkerMessage message;
    {
      absl::MutexLock lock(&mutex_);
      writing_ = false;
      mutex_.Await(absl::Condition(this, &Session::CanWrite));
      if (stream_over_) return;
      message = std::move(outgoing_.front());
      outgoing_.pop_front();
      writing_ = true;
    }
    if (!stream.Write(message)) {
      absl::MutexLock lock(&mutex_);
      writing_ = false;
      mutex_.Await(absl::Condition(&stream_over_));
      return;
    }
  }
}

absl::Duration Session::NextBackoff() {
  // Full jitter, so that a fleet does not return in one wave.
  thread_local std::mt19937 random(std::random_device{}());
  absl::MutexLock lock(&mutex_);
  const absl::Duration longest = std::min(backoff_, longest_backoff_);
  backoff_ = longest * 2;
  return longest * std::uniform_real_distribution<double>(0.5, 1.0)(random);
}

}  // namespace liger::agent
