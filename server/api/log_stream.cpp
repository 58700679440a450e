#include "server/api/log_stream.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/clock.h"
#include "server/api/status.h"
#include "server/errors/errors.h"
#include "server/jobs/transitions.h"

namespace liger::server {
namespace {

constexpr int64_t kPieceBytes = 64 << 10;
constexpr size_t kQueuedPieces = 4;

// NOT_FOUND RANK_NOT_FOUND for a rank that the attempt does not have.
absl::Status CheckRank(const ReadView& view, const JobRow& job, int64_t epoch, int rank) {
  int ranks = 0;
  for (const MemberRow& member : view.Members(job.uid, epoch)) {
    ranks += static_cast<int>(member.ranks.size());
  }
  if (ranks == 0) ranks = std::max(1, job.resolved_spec.resources().count());  // not placed yet
  if (rank >= 0 && rank < ranks) return absl::OkStatus();
  return ErrorWithReason(
      absl::StatusCode::kNotFound, "RANK_NOT_FOUND",
      absl::StrCat("job '", job.name, "' has no rank ", rank, "; it has ",
                   ranks == 1 ? "rank 0 only" : absl::StrCat("ranks 0 to ", ranks - 1)));
}

}  // namespace

LogStream::LogStream(Store* store, LogStore* logs, Executor* files, std::string tenant,
                     const liger::v1::TailLogsRequest& request)
    : QueuedWriter(kQueuedPieces),
      store_(store),
      logs_(logs),
      files_(files),
      tenant_(std::move(tenant)),
      request_(request),
      waits_(request.follow()) {}

void LogStream::Begin() {
  Hold();
  {
    absl::MutexLock lock(&state_mutex_);
    resolving_ = true;
  }
  Resolve();
}

void LogStream::End(const absl::Status& status) { Close(ToGrpc(status)); }

void LogStream::OnFinished() {
  LogKey key;
  int64_t listener = 0;
  {
    absl::MutexLock lock(&state_mutex_);
    finished_ = true;
    key = key_;
    std::swap(listener, listener_);
  }
  if (listener != 0) logs_->RemoveListener(key.job_uid, listener);
}

void LogStream::Resolve() {
  store_->Read<Target>(
      [tenant = tenant_, request = request_](const ReadView& view) -> absl::StatusOr<Target> {
        absl::StatusOr<JobRow> row = FindJob(view, tenant, request.job());
        if (!row.ok()) return row.status();
        const absl::Status there = RequireAttempt(view, *row, request.attempt());
        if (!there.ok()) return there;
        const int64_t epoch = request.attempt() != 0 ? request.attempt() : row->epoch;
        if (absl::Status known = CheckRank(view, *row, epoch, request.rank()); !known.ok()) {
          return known;
        }
        return Target{
            row->uid, row->epoch,
            IsTerminal(row->state) ? absl::FromUnixMicros(row->ended_us) : absl::InfiniteFuture()};
      },
      [self = Self()](const absl::StatusOr<Target>& target) { self->OnTarget(target); });
}

void LogStream::OnTarget(const absl::StatusOr<Target>& target) {
  if (!target.ok()) return Close(ToGrpc(target.status()));
  {
    absl::MutexLock lock(&state_mutex_);
    resolving_ = false;
    if (target->ended != absl::InfiniteFuture() && !terminal_) {
      const absl::Duration ago = std::max(absl::ZeroDuration(), absl::Now() - target->ended);
      quiet_since_ = Clock::Real()->Elapsed() - ago;
      waits_ = waits_ || ago < kQuiet;
    }
    terminal_ = target->ended != absl::InfiniteFuture();
    if (!request_.has_attempt()) next_epoch_ = target->epoch;
    if (!resolved_) {
      key_ = {target->job_uid, request_.has_attempt() ? request_.attempt() : target->epoch,
              request_.rank()};
    }
  }
  Schedule();
}

void LogStream::Poke() {
  {
    absl::MutexLock lock(&state_mutex_);
    if (!waits_ || !resolved_ || resolving_) return;
    resolving_ = true;
  }
  Resolve();
}

void LogStream::Schedule() {
  {
    absl::MutexLock lock(&state_mutex_);
    if (key_.job_uid.empty()) return;
    again_ = true;
    if (std::exchange(scheduled_, true)) return;
  }
  files_->Run([self = Self()] { self->Pump(); });
}

void LogStream::Pump() {
  while (true) {
    {
      absl::MutexLock lock(&state_mutex_);
      if (!std::exchange(again_, false)) {
        scheduled_ = false;
        return;
      }
    }
    OpenLog();
    while (SendPiece()) {
    }
    if (IsDone()) Close(grpc::Status::OK);
  }
}

LogStream::Place LogStream::Here() {
  absl::MutexLock lock(&state_mutex_);
  return {key_, offset_};
}

void LogStream::OpenLog() {
  const LogKey key = Here().key;
  bool waits = false;
  {
    absl::MutexLock lock(&state_mutex_);
    if (std::exchange(resolved_, true)) return;
    waits = waits_;
  }
  if (request_.tail_bytes() > 0) {
    const absl::StatusOr<int64_t> size = logs_->Size(key);
    absl::MutexLock lock(&state_mutex_);
    offset_ = size.ok() ? std::max<int64_t>(0, *size - request_.tail_bytes()) : 0;
  }
  if (!waits) return;
  const int64_t id = logs_->AddListener(key.job_uid, [weak = std::weak_ptr<LogStream>(Self())] {
    if (const auto self = weak.lock()) self->Schedule();
  });
  bool too_late = false;
  {
    absl::MutexLock lock(&state_mutex_);
    too_late = finished_;
    listener_ = id;
  }
  if (too_late) logs_->RemoveListener(key.job_uid, id);
}

bool LogStream::IsDone() {
  const Place here = Here();
  {
    absl::MutexLock lock(&state_mutex_);
    const bool over = terminal_ && Clock::Real()->Elapsed() - quiet_since_ >= kQuiet;
    if (queued() >= kQueuedPieces || (waits_ && !over)) return false;
  }
  // Only when the file is really used up; room may have been missing.
  const absl::StatusOr<int64_t> size = logs_->Size(here.key);
  return !size.ok() || *size <= here.offset;
}

bool LogStream::SendPiece() {
  if (queued() >= kQueuedPieces) return false;
  const Place here = Here();
  absl::StatusOr<std::string> data = logs_->Read(here.key, here.offset, kPieceBytes);
  if (!data.ok()) {
    Close(ToGrpc(data.status()));
    return false;
  }
  {
    absl::MutexLock lock(&state_mutex_);
    if (data->empty()) {
      // A new attempt's log begins where the old one's ends.
      if (!request_.follow() || next_epoch_ <= key_.epoch) return false;
      key_.epoch = next_epoch_;
      offset_ = 0;
      return true;
    }
    offset_ += static_cast<int64_t>(data->size());
    if (terminal_) quiet_since_ = Clock::Real()->Elapsed();
  }
  liger::v1::TailLogsResponse response;
  response.set_epoch(here.key.epoch);
  response.set_offset(here.offset);
  response.set_data(*std::move(data));
  return Send(std::move(response));
}

}  // namespace liger::server
