#include "server/api/live_streams.h"

namespace liger::server {
namespace {

absl::Status ShuttingDown() {
  return absl::UnavailableError("the coordinator is shutting down; try again");
}

}  // namespace

void LiveStreams::Add(const std::shared_ptr<LiveStream>& stream) {
  {
    absl::MutexLock lock(&mutex_);
    if (!ended_) {
      streams_.push_back(stream);
      return;
    }
  }
  stream->End(ShuttingDown());
}

std::list<std::shared_ptr<LiveStream>> LiveStreams::Alive() {
  std::list<std::shared_ptr<LiveStream>> alive;
  absl::MutexLock lock(&mutex_);
  streams_.remove_if([&alive](const std::weak_ptr<LiveStream>& weak) {
    std::shared_ptr<LiveStream> stream = weak.lock();
    if (stream == nullptr) return true;
    alive.push_back(std::move(stream));
    return false;
  });
  return alive;
}

void LiveStreams::PokeAll() {
  for (const auto& stream : Alive()) stream->Poke();
}

void LiveStreams::EndAll() {
  {
    absl::MutexLock lock(&mutex_);
    ended_ = true;
  }
  for (const auto& stream : Alive()) stream->End(ShuttingDown());
}

}  // namespace liger::server
