#ifndef LIGER_WORKER_AGENT_ADVERTISED_H_
#define LIGER_WORKER_AGENT_ADVERTISED_H_

#include <string>

#include "worker/agent/options.h"

namespace liger::agent {

// The host at which the ranks of other workers reach those of this one.
struct Advertised {
  std::string address;
  bool found = false;   // false: there was nothing to derive it from, and it is loopback
  std::string warning;  // empty: nothing seems wrong with it
};

// --advertise-address where it is given; else the address of --socket-interface, or that from
// which this host reaches the coordinator: 127.0.0.1 where the coordinator is told by loopback.
Advertised AdvertisedBy(const Options& options);

// Whether `derived` is news to a worker that tells `held`: one that was found stays until another
// is found, as the coordinator's name may have no address for a while.
bool Replaces(const Advertised& derived, const Advertised& held);

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_ADVERTISED_H_
