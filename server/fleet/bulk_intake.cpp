#include "server/fleet/bulk_intake.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

namespace liger::server {
namespace {

using liger::trainer::v1::Ref;
using liger::worker::v1::Chunk;
using liger::worker::v1::ChunkAck;
using liger::worker::v1::MetricChunk;
using liger::worker::v1::MetricSample;

// A job and attempt that no chunk came for in so long are read anew.
constexpr absl::Duration kForgetAfter = absl::Minutes(10);

LogKey KeyOf(const Ref& ref, int rank) { return {ref.job_uid(), ref.epoch(), rank}; }

int RankOf(const Chunk& chunk) {
  return chunk.has_log() ? chunk.log().rank() : chunk.has_resume() ? chunk.resume().rank() : 0;
}

// Bulk of tasks that nobody knows (dry runs, deleted jobs) is let go, so that
// its sender can forget it too.
ChunkAck LetGo(const Chunk& chunk) {
  ChunkAck ack;
  *ack.mutable_ref() = chunk.ref();
  ack.set_rank(RankOf(chunk));
  if (chunk.has_log()) {
    ack.set_log_offset(chunk.log().offset() + static_cast<int64_t>(chunk.log().data().size()));
  }
  for (const MetricSample& sample : chunk.metrics().samples()) {
    ack.set_through_step(std::max(ack.through_step(), sample.step().step()));
  }
  return ack;
}

}  // namespace

BulkIntake::BulkIntake(Store* store, LogStore* logs, JobMetrics* metrics,
                       absl::Duration flush_interval, const Clock* clock)
    : store_(store),
      logs_(logs),
      metrics_(metrics),
      clock_(*clock),
      flush_interval_(flush_interval),
      last_flush_(clock_.Elapsed()),
      thread_(1) {}

BulkIntake::~BulkIntake() { Stop(); }

void BulkIntake::Stop() {
  thread_.Run([this] { Flush(); });
  thread_.Shutdown();
}

void BulkIntake::OnChunk(const std::shared_ptr<ShipLink>& link, Chunk chunk,
                         std::function<void()> next) {
  thread_.Run([this, item = Item{link, std::move(chunk), std::move(next)}]() mutable {
    Handle(std::move(item));
  });
}

void BulkIntake::Tick() {
  thread_.Run([this] {
    if (clock_.Elapsed() - last_flush_ >= flush_interval_) Flush();
  });
}

void BulkIntake::SettleEnd(const Ref& ref, std::function<void()> done) {
  thread_.Run([this, attempt = Attempt(ref.job_uid(), ref.epoch()), done = std::move(done)] {
    ended_[attempt] = clock_.Elapsed();
    if (!storing_) Flush();
    if (!storing_) return done();
    // What is stored now may be from before the task's last steps.
    const auto it = states_.find(attempt);
    const bool buffered = it != states_.end() && !it->second.buffer.empty();
    (buffered ? ends_after_next_ : ends_).push_back(done);
  });
}

void BulkIntake::Handle(Item item) {
  const Attempt attempt(item.chunk.ref().job_uid(), item.chunk.ref().epoch());
  const auto it = states_.find(attempt);
  if (it == states_.end()) return LookUp(std::move(item));
  Take(&it->second, item);
  Proceed(std::move(item.next));
}

void BulkIntake::Proceed(std::function<void()> next) {
  if (storing_ && buffered_samples_ >= kMaxBufferedSamples) {
    held_.push_back(std::move(next));
  } else {
    next();
  }
}

void BulkIntake::LookUp(Item item) {
  // Absent: no such attempt.
  using Answer = std::optional<int64_t>;
  const Attempt attempt(item.chunk.ref().job_uid(), item.chunk.ref().epoch());
  store_->Read<Answer>(
      [attempt](const ReadView& view) -> absl::StatusOr<Answer> {
        const std::optional<JobRow> job = view.Job(attempt.first);
        const bool known =
            job.has_value() && job->deleted_us == 0 &&
            (attempt.second == 0 || view.Attempt(attempt.first, attempt.second).has_value());
        if (!known) return Answer();
        return Answer(view.MetricsThroughStep(attempt.first, attempt.second));
      },
      [this, attempt, item = std::move(item)](absl::StatusOr<Answer> answer) mutable {
        thread_.Run([this, attempt, item = std::move(item), answer = std::move(answer)]() mutable {
          if (!answer.ok()) return item.link->Close(answer.status());
          if (!answer->has_value()) {
            item.link->Send(LetGo(item.chunk));
            return item.next();
          }
          State& state = states_[attempt];
          state.stored_step = std::max(state.stored_step, **answer);
          state.buffered_step = std::max(state.buffered_step, state.stored_step);
          Take(&state, item);
          Proceed(std::move(item.next));
        });
      });
}

void BulkIntake::Take(State* state, const Item& item) {
  state->ref = item.chunk.ref();
  state->links[RankOf(item.chunk)] = item.link;
  state->last_use = clock_.Elapsed();
  switch (item.chunk.body_case()) {
    case Chunk::kResume:
      return Acknowledge(*state, item.chunk.resume().rank());
    case Chunk::kLog:
      return TakeLog(state, item);
    case Chunk::kMetrics:
      return TakeMetrics(state, item);
    case Chunk::BODY_NOT_SET:
      return;  // of a newer protocol
  }
}

void BulkIntake::TakeLog(State* state, const Item& item) {
  const LogKey key = KeyOf(item.chunk.ref(), item.chunk.log().rank());
  const absl::StatusOr<int64_t> through =
      logs_->Append(key, item.chunk.log().offset(), item.chunk.log().data());
  // Not stored, so not acknowledged: the worker keeps it and comes back.
  if (!through.ok()) return item.link->Close(through.status());
  state->log_offsets[key.rank] = *through;
  state->logs_changed = true;
  Acknowledge(*state, key.rank);
}

void BulkIntake::TakeMetrics(State* state, const Item& item) {
  for (const MetricSample& sample : item.chunk.metrics().samples()) {
    if (sample.step().step() <= state->buffered_step) continue;  // a replay
    state->buffered_step = sample.step().step();
    state->buffer.push_back(sample);
    ++buffered_samples_;
  }
  const bool ended = ended_.contains({state->ref.job_uid(), state->ref.epoch()});
  if (ended || buffered_samples_ >= kMaxBufferedSamples) Flush();
}

void BulkIntake::Acknowledge(const State& state, int rank) {
  ChunkAck ack;
  *ack.mutable_ref() = state.ref;
  ack.set_rank(rank);
  const auto offset = state.log_offsets.find(rank);
  if (offset != state.log_offsets.end()) {
    ack.set_log_offset(offset->second);
  } else if (const auto size = logs_->Size(KeyOf(state.ref, rank)); size.ok()) {
    ack.set_log_offset(*size);
  }
  ack.set_through_step(state.stored_step);
  if (const auto link = state.links.find(rank); link != state.links.end()) link->second->Send(ack);
}

void BulkIntake::Flush() {
  last_flush_ = clock_.Elapsed();
  PutLogRows();
  if (storing_) return;
  AppendMetrics command;
  Batch batch;
  for (auto& [attempt, state] : states_) {
    if (state.buffer.empty()) continue;
    MetricChunk chunk;
    chunk.mutable_samples()->Assign(state.buffer.begin(), state.buffer.end());
    command.chunks.push_back({attempt.first, attempt.second, state.buffer.front().step().step(),
                              state.buffer.back().step().step(), chunk.SerializeAsString()});
    batch.emplace_back(attempt, std::exchange(state.buffer, {}));
  }
  buffered_samples_ = 0;
  std::erase_if(states_, [this](const auto& entry) {
    return entry.second.buffered_step == entry.second.stored_step &&
           entry.second.last_use + kForgetAfter < last_flush_;
  });
  std::erase_if(ended_,
                [this](const auto& entry) { return entry.second + kForgetAfter < last_flush_; });
  if (command.chunks.empty()) return;
  storing_ = true;
  store_->Apply<AppendMetrics>(
      absl::ToUnixMicros(clock_.Now()), "system", std::move(command),
      [this, batch = std::move(batch)](const absl::StatusOr<AppendMetrics::Result>& result) {
        thread_.Run([this, batch, status = result.status()] { Stored(batch, status); });
      });
}

void BulkIntake::Stored(const Batch& batch, const absl::Status& status) {
  storing_ = false;
  for (const auto& [attempt, samples] : batch) {
    const auto it = states_.find(attempt);
    if (!status.ok()) {
      // Forget what came after, too; the worker sends all of it on a new stream.
      if (it == states_.end()) continue;
      for (const auto& [rank, link] : it->second.links) link->Close(status);
      buffered_samples_ -= static_cast<int>(it->second.buffer.size());
      states_.erase(it);
      continue;
    }
    for (const MetricSample& sample : samples) {
      metrics_->ObserveStep(attempt.first, attempt.second, sample.step());
    }
    metrics_->SetTokens(attempt.first, attempt.second, samples.back().step().tokens_total());
    if (it == states_.end()) continue;
    it->second.stored_step = std::max(it->second.stored_step, samples.back().step().step());
    Acknowledge(it->second, 0);
  }
  const std::vector<std::function<void()>> ends =
      std::exchange(ends_, std::exchange(ends_after_next_, {}));
  const bool late = std::any_of(states_.begin(), states_.end(), [this](const auto& entry) {
    return ended_.contains(entry.first) && !entry.second.buffer.empty();
  });
  if (late || buffered_samples_ >= kMaxBufferedSamples) Flush();
  if (!storing_) {  // they were dropped with a failure
    for (const auto& done : std::exchange(ends_, {})) done();
  }
  for (const auto& done : ends) done();
  for (const auto& next : std::exchange(held_, {})) next();
}

void BulkIntake::PutLogRows() {
  PutLogFiles command;
  for (auto& [attempt, state] : states_) {
    if (!state.logs_changed) continue;
    state.logs_changed = false;
    for (const auto& [rank, offset] : state.log_offsets) {
      command.files.push_back(
          {attempt.first, attempt.second, rank,
           absl::StrCat("logs/", LogStore::RelativePath({attempt.first, attempt.second, rank})),
           offset});
    }
  }
  if (command.files.empty()) return;
  // The row lets retention find the file; the file itself is what counts.
  store_->Apply<PutLogFiles>(absl::ToUnixMicros(clock_.Now()), "system", std::move(command), {});
}

}  // namespace liger::server
