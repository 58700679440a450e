#include "worker/agent/reservations.h"

#include <utility>
#include <vector>

#include "worker/agent/attempt_folder.h"

namespace liger::agent {
namespace {

constexpr absl::Duration kDefaultDeadline = absl::Seconds(60);

bool HasRankZero(const worker::v1::Prepare& prepare) {
  if (prepare.kind() != trainer::v1::TASK_KIND_TRAIN) return false;
  for (const auto& rank : prepare.local_ranks()) {
    if (rank.rank() == 0) return true;
  }
  return false;
}

}  // namespace

absl::StatusOr<worker::v1::Master> Reservations::Prepare(const worker::v1::Prepare& prepare,
                                                         absl::Time now) {
  const std::string key = TaskKey(prepare.ref());
  if (auto it = reserved_.find(key); it != reserved_.end()) return it->second.master;
  std::vector<std::string> uuids;
  for (const auto& rank : prepare.local_ranks()) {
    if (!rank.device_uuid().empty()) uuids.push_back(rank.device_uuid());
  }
  if (absl::Status s = ledger_->Reserve(key, uuids); !s.ok()) return s;
  Reservation reservation{prepare, {}, now};
  reservation.deadline +=
      prepare.deadline_seconds() > 0 ? absl::Seconds(prepare.deadline_seconds()) : kDefaultDeadline;
  if (HasRankZero(prepare)) {
    absl::StatusOr<int> port = ports_->Hold(key);
    if (!port.ok()) {
      ledger_->Release(key);
      return port.status();
    }
    reservation.master.set_addr(advertise_address_);
    reservation.master.set_port(*port);
  }
  return reserved_.emplace(key, std::move(reservation)).first->second.master;
}

std::optional<worker::v1::Prepare> Reservations::Take(const trainer::v1::Ref& ref) {
  auto node = reserved_.extract(TaskKey(ref));
  if (node.empty()) return std::nullopt;
  return std::move(node.mapped().prepare);
}

template <typename Predicate>
void Reservations::ReleaseIf(Predicate predicate) {
  std::erase_if(reserved_, [&](const auto& entry) {
    if (!predicate(entry.second)) return false;
    ledger_->Release(entry.first);
    ports_->Release(entry.first);
    return true;
  });
}

void Reservations::Abort(const trainer::v1::Ref& ref) {
  ReleaseIf([key = TaskKey(ref)](const Reservation& r) { return TaskKey(r.prepare.ref()) == key; });
}

void Reservations::AbortAll() {
  ReleaseIf([](const Reservation&) { return true; });
}

void Reservations::AbortOlder(const trainer::v1::Ref& ref) {
  ReleaseIf([&ref](const Reservation& r) {
    const trainer::v1::Ref& other = r.prepare.ref();
    return other.job_uid() == ref.job_uid() && other.epoch() < ref.epoch();
  });
}

void Reservations::Expire(absl::Time now) {
  ReleaseIf([now](const Reservation& r) { return now > r.deadline; });
}

}  // namespace liger::agent
