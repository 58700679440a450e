#include "worker/agent/log_shipper.h"

#include <algorithm>
#include <vector>

#include "worker/agent/attempt_folder.h"
#include "worker/agent/log.h"

namespace liger::agent {

using worker::v1::Chunk;
using worker::v1::ChunkAck;

namespace {

constexpr absl::Duration kPumpInterval = absl::Milliseconds(200);
constexpr absl::Duration kRetryInterval = absl::Seconds(1);

}  // namespace

LogShipper::LogShipper(std::shared_ptr<grpc::Channel> channel, std::string worker_id)
    : stub_(worker::v1::Fleet::NewStub(std::move(channel))),
      worker_id_(std::move(worker_id)),
      thread_([this] { Run(); }) {}

LogShipper::~LogShipper() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    if (context_ != nullptr) context_->TryCancel();
  }
  thread_.join();
}

void LogShipper::Add(const trainer::v1::Ref& ref, int rank, const std::string& log_path,
                     const std::string& events_path) {
  absl::MutexLock lock(&mutex_);
  sources_.try_emplace({TaskKey(ref), rank},
                       std::make_shared<ShipSource>(ref, rank, log_path, events_path));
}

void LogShipper::Finish(const trainer::v1::Ref& ref) {
  absl::MutexLock lock(&mutex_);
  for (auto& [key, source] : sources_) {
    if (key.first == TaskKey(ref)) source->Finish();
  }
}

bool LogShipper::Drained(const trainer::v1::Ref& ref) const {
  absl::MutexLock lock(&mutex_);
  return std::all_of(sources_.begin(), sources_.end(), [&ref](const auto& entry) {
    return entry.first.first != TaskKey(ref) || entry.second->Drained();
  });
}

void LogShipper::Remove(const trainer::v1::Ref& ref) {
  absl::MutexLock lock(&mutex_);
  std::erase_if(sources_, [&ref](const auto& entry) { return entry.first.first == TaskKey(ref); });
}

bool LogShipper::WaitFor(absl::Duration duration) {
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(absl::Condition(&stopping_), duration);
  return !stopping_;
}

bool LogShipper::HasWork() const { return !sources_.empty() && !stopping_; }

void LogShipper::Run() {
  while (true) {
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(
          +[](LogShipper* self)
               ABSL_NO_THREAD_SAFETY_ANALYSIS { return self->stopping_ || self->HasWork(); },
          this));
      if (stopping_) return;
    }
    Serve();
    if (!WaitFor(kRetryInterval)) return;
  }
}

void LogShipper::Serve() {
  grpc::ClientContext context;
  {
    absl::MutexLock lock(&mutex_);
    if (stopping_) return;
    for (auto& [key, source] : sources_) source->Restart();
    context_ = &context;
    stream_broken_ = false;
  }
  std::unique_ptr<Stream> stream = stub_->Ship(&context);
  std::thread reader([&] { ReadAcks(*stream); });
  while (Pump(*stream)) {
    if (!WaitFor(kPumpInterval)) break;
  }
  context.TryCancel();
  reader.join();
  {
    absl::MutexLock lock(&mutex_);
    context_ = nullptr;
  }
  stream->Finish();
}

bool LogShipper::Pump(Stream& stream) {
  std::vector<std::shared_ptr<ShipSource>> sources;
  {
    absl::MutexLock lock(&mutex_);
    if (stream_broken_ || !HasWork()) return false;
    for (auto& [key, source] : sources_) sources.push_back(source);
  }
  for (auto& source : sources) {
    while (std::optional<Chunk> chunk = source->Next()) {
      chunk->set_worker_id(worker_id_);
      if (!stream.Write(*chunk)) return false;
    }
  }
  return true;
}

void LogShipper::ReadAcks(Stream& stream) {
  ChunkAck ack;
  while (stream.Read(&ack)) {
    std::shared_ptr<ShipSource> source;
    {
      absl::MutexLock lock(&mutex_);
      auto it = sources_.find({TaskKey(ack.ref()), ack.rank()});
      if (it != sources_.end()) source = it->second;
    }
    if (source) source->Acknowledged(ack);
  }
  absl::MutexLock lock(&mutex_);
  stream_broken_ = true;
}

}  // namespace liger::agent
