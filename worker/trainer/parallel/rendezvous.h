#ifndef LIGER_WORKER_TRAINER_PARALLEL_RENDEZVOUS_H_
#define LIGER_WORKER_TRAINER_PARALLEL_RENDEZVOUS_H_

#include <chrono>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "worker/trainer/parallel/rank.h"

namespace liger::trainer {

// Of c10d's own timeouts, which name addresses and know nothing of progress: the Watch ends what
// hangs.
inline constexpr std::chrono::hours kNever(24 * 30);

// For how long this rank waits for the others, from now on: rank 0 for `seconds`.
struct JoinTime {
  JoinTime(const RankInfo& rank, double seconds);

  std::chrono::milliseconds left() const;
  // To ranks that have all come.
  std::chrono::milliseconds left_to_connect() const;

  const std::chrono::milliseconds whole;
  const std::chrono::steady_clock::time_point began = std::chrono::steady_clock::now();
};

// The gang's store at MASTER_ADDR:MASTER_PORT, which rank 0 serves unless it is served already;
// returns once every rank has come. Throws as Gang::Join.
c10::intrusive_ptr<c10d::Store> MeetAtStore(const RankInfo& rank, const JoinTime& time);

// Gloo between the ranks of `store`: over loopback where all of them are of this host, else over
// the interface that GLOO_SOCKET_IFNAME names, or that from which MASTER_ADDR is reached. Throws
// what Gloo does where the ranks have not connected to each other within `limit`.
c10::intrusive_ptr<c10d::Backend> MakeGloo(const c10::intrusive_ptr<c10d::Store>& store,
                                           const RankInfo& rank,
                                           std::chrono::milliseconds limit = kNever);

// NCCL, from a module that only a gang on GPUs loads (nccl_module.h). Throws TrainerError
// (CONFIG) where it cannot be loaded.
c10::intrusive_ptr<c10d::Backend> MakeNccl(const c10::intrusive_ptr<c10d::Store>& store,
                                           const RankInfo& rank);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_PARALLEL_RENDEZVOUS_H_
