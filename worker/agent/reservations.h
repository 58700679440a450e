#ifndef LIGER_WORKER_AGENT_RESERVATIONS_H_
#define LIGER_WORKER_AGENT_RESERVATIONS_H_

#include <map>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "liger/worker/v1/worker.pb.h"
#include "worker/agent/devices.h"
#include "worker/agent/rank_ports.h"

namespace liger::agent {

// Tasks between Prepare and Start: their devices are held, and for the worker
// of rank 0 a port, so that a gang either starts everywhere or nowhere.
class Reservations {
 public:
  // `advertise_address`: at which other workers reach this one.
  Reservations(DeviceLedger* ledger, RankPorts* ports, std::string advertise_address)
      : ledger_(ledger), ports_(ports), advertise_address_(std::move(advertise_address)) {}

  void SetAdvertiseAddress(std::string address) { advertise_address_ = std::move(address); }

  // Where the other ranks find rank 0 (unset on its other workers). Idempotent.
  // Errors: those of DeviceLedger::Reserve and RankPorts::Hold.
  absl::StatusOr<worker::v1::Master> Prepare(const worker::v1::Prepare& prepare, absl::Time now);
  // Ends the reservation and hands over its Prepare; the task keeps the devices
  // and the port. nullopt when there is none.
  std::optional<worker::v1::Prepare> Take(const trainer::v1::Ref& ref);
  // Releases everything. Unknown tasks are ignored.
  void Abort(const trainer::v1::Ref& ref);
  void AbortAll();
  // Those of the job's earlier epochs.
  void AbortOlder(const trainer::v1::Ref& ref);
  // Aborts what was not started in time.
  void Expire(absl::Time now);
  size_t size() const { return reserved_.size(); }

 private:
  struct Reservation {
    worker::v1::Prepare prepare;
    worker::v1::Master master;
    absl::Time deadline;
  };
  template <typename Predicate>
  void ReleaseIf(Predicate predicate);

  DeviceLedger* const ledger_;
  RankPorts* const ports_;
  std::string advertise_address_;
  std::map<std::string, Reservation> reserved_;
};

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_RESERVATIONS_H_
