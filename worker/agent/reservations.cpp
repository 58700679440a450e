#include "worker/agent/reservations.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <utility>
#include <vector>

#include "worker/agent/attempt_folder.h"

namespace liger::agent {
namespace {

constexpr absl::Duration kDefaultDeadline = absl::Seconds(60);

// Binds a free port without listening, so that no other program takes it
// before the trainer of rank 0 listens there.
absl::StatusOr<int> HoldFreePort(UniqueFd& holder) {
  holder.reset(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_ANY);
  socklen_t size = sizeof(address);
  auto* raw = reinterpret_cast<sockaddr*>(&address);
  if (!holder.valid() || setsockopt(holder.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
      bind(holder.get(), raw, sizeof(address)) != 0 || getsockname(holder.get(), raw, &size) != 0) {
    return absl::ErrnoToStatus(errno, "cannot hold a port for rank 0");
  }
  return ntohs(address.sin_port);
}

bool HasRankZero(const worker::v1::Prepare& prepare) {
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
  Reservation reservation{prepare, {}, {}, now};
  reservation.deadline +=
      prepare.deadline_seconds() > 0 ? absl::Seconds(prepare.deadline_seconds()) : kDefaultDeadline;
  if (HasRankZero(prepare)) {
    absl::StatusOr<int> port = HoldFreePort(reservation.port_holder);
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
