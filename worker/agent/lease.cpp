#include "worker/agent/lease.h"

#include <algorithm>

#include "worker/agent/steady_time.h"

namespace liger::agent {
namespace {

absl::Duration SecondsOr(double seconds, absl::Duration otherwise) {
  return seconds > 0 ? absl::Seconds(seconds) : otherwise;
}

}  // namespace

Lease::Lease()
    : heartbeat_(absl::Seconds(2)),
      fence_(absl::Seconds(15)),
      orphan_timeout_(absl::Minutes(30)),
      held_since_(SteadyNow()) {}

void Lease::Renew(const worker::v1::Lease& terms, absl::Time hello_sent) {
  absl::MutexLock lock(&mutex_);
  heartbeat_ = SecondsOr(terms.heartbeat_seconds(), heartbeat_);
  fence_ = SecondsOr(terms.fence_seconds(), fence_);
  orphan_timeout_ = SecondsOr(terms.orphan_timeout_seconds(), orphan_timeout_);
  held_since_ = hello_sent;
  held_once_ = true;
  in_flight_.clear();
}

void Lease::HeartbeatSent(int64_t seq, absl::Time now) {
  absl::MutexLock lock(&mutex_);
  in_flight_[seq] = now;
}

void Lease::HeartbeatAcknowledged(int64_t seq) {
  absl::MutexLock lock(&mutex_);
  auto it = in_flight_.find(seq);
  if (it == in_flight_.end()) return;
  held_since_ = std::max(held_since_, it->second);
  in_flight_.erase(in_flight_.begin(), std::next(it));
}

bool Lease::Fenced(absl::Time now) const {
  absl::MutexLock lock(&mutex_);
  return !held_once_ || now - held_since_ > fence_;
}

bool Lease::Orphaned(absl::Time now) const {
  absl::MutexLock lock(&mutex_);
  return now - held_since_ > orphan_timeout_;
}

absl::Duration Lease::heartbeat_interval() const {
  absl::MutexLock lock(&mutex_);
  return heartbeat_;
}

absl::Duration Lease::fence() const {
  absl::MutexLock lock(&mutex_);
  return fence_;
}

}  // namespace liger::agent
