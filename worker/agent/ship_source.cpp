#include "worker/agent/ship_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace liger::agent {

using worker::v1::Chunk;
using worker::v1::MetricSample;

namespace {

constexpr int64_t kChunkBytes = 64 << 10;
constexpr int64_t kWindowBytes = 1 << 20;
constexpr size_t kStepsPerChunk = 256;

// The trainer stamps its events with CLOCK_MONOTONIC, which all processes of
// the host share.
absl::Time WallTime(int64_t monotonic_ns) {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return absl::Now() - (absl::DurationFromTimespec(now) - absl::Nanoseconds(monotonic_ns));
}

MetricSample ToSample(const trainer::v1::Event& event) {
  MetricSample sample;
  *sample.mutable_step() = event.step();
  const absl::Time time = event.monotonic_ns() > 0 ? WallTime(event.monotonic_ns()) : absl::Now();
  const timespec ts = absl::ToTimespec(time);
  sample.mutable_time()->set_seconds(ts.tv_sec);
  sample.mutable_time()->set_nanos(static_cast<int32_t>(ts.tv_nsec));
  return sample;
}

}  // namespace

ShipSource::ShipSource(const trainer::v1::Ref& ref, int rank, std::string log_path,
                       std::string events_path)
    : ref_(ref), rank_(rank), log_path_(std::move(log_path)), tail_(std::move(events_path)) {}

void ShipSource::Restart() {
  absl::MutexLock lock(&mutex_);
  asked_ = resumed_ = false;
  steps_sent_ = 0;
  log_sent_ = log_acknowledged_;
}

std::optional<Chunk> ShipSource::Next() {
  absl::MutexLock lock(&mutex_);
  if (!asked_) {
    asked_ = true;
    Chunk chunk = MakeChunk();
    chunk.mutable_resume()->set_rank(rank_);
    return chunk;
  }
  if (!resumed_) return std::nullopt;
  if (auto metrics = NextMetrics()) return metrics;
  return NextLog();
}

void ShipSource::Acknowledged(const worker::v1::ChunkAck& ack) {
  absl::MutexLock lock(&mutex_);
  if (!resumed_) {
    // The coordinator knows best where it is, forwards or back.
    resumed_ = true;
    log_sent_ = log_acknowledged_ = ack.log_offset();
  }
  log_acknowledged_ = std::max(log_acknowledged_, ack.log_offset());
  log_sent_ = std::max(log_sent_, log_acknowledged_);
  through_step_ = std::max(through_step_, ack.through_step());
  while (!steps_.empty() && steps_.front().step().step() <= through_step_) {
    steps_.pop_front();
    if (steps_sent_ > 0) --steps_sent_;
  }
}

void ShipSource::Finish() {
  absl::MutexLock lock(&mutex_);
  finished_ = true;
}

bool ShipSource::Drained() {
  absl::MutexLock lock(&mutex_);
  ReadSteps();
  return finished_ && tail_.at_end() && steps_.empty() && log_acknowledged_ >= LogSize();
}

std::optional<Chunk> ShipSource::NextLog() {
  if (log_sent_ - log_acknowledged_ >= kWindowBytes) return std::nullopt;
  if (!log_.valid()) log_.reset(open(log_path_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!log_.valid()) return std::nullopt;
  std::string data(kChunkBytes, '\0');
  const ssize_t n = pread(log_.get(), data.data(), data.size(), log_sent_);
  if (n <= 0) return std::nullopt;
  data.resize(static_cast<size_t>(n));
  Chunk chunk = MakeChunk();
  chunk.mutable_log()->set_rank(rank_);
  chunk.mutable_log()->set_offset(log_sent_);
  chunk.mutable_log()->set_data(std::move(data));
  log_sent_ += n;
  return chunk;
}

std::optional<Chunk> ShipSource::NextMetrics() {
  ReadSteps();
  if (steps_sent_ == steps_.size()) return std::nullopt;
  Chunk chunk = MakeChunk();
  const size_t end = std::min(steps_.size(), steps_sent_ + kStepsPerChunk);
  for (; steps_sent_ < end; ++steps_sent_) {
    *chunk.mutable_metrics()->add_samples() = steps_[steps_sent_];
  }
  return chunk;
}

void ShipSource::ReadSteps() {
  // Bounded: what the coordinator does not take stays in the file.
  if (steps_.size() > 16 * kStepsPerChunk) return;
  absl::StatusOr<std::vector<trainer::v1::Event>> events = tail_.Read();
  if (!events.ok()) return;  // the task runner reports it
  for (const trainer::v1::Event& event : *events) {
    if (event.has_step() && event.step().step() > through_step_) steps_.push_back(ToSample(event));
  }
}

int64_t ShipSource::LogSize() const {
  struct stat st;
  return stat(log_path_.c_str(), &st) == 0 ? st.st_size : 0;
}

Chunk ShipSource::MakeChunk() const {
  Chunk chunk;
  *chunk.mutable_ref() = ref_;
  return chunk;
}

}  // namespace liger::agent
