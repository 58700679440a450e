#ifndef LIGER_WORKER_TRAINER_PARALLEL_RENDEZVOUS_H_
#define LIGER_WORKER_TRAINER_PARALLEL_RENDEZVOUS_H_

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "absl/time/time.h"
#include "worker/trainer/parallel/rank.h"

namespace liger::trainer {

// The gang's store at MASTER_ADDR:MASTER_PORT, which rank 0 serves unless it is served already;
// returns once every rank has come. Throws as Gang::Join.
c10::intrusive_ptr<c10d::Store> MeetAtStore(const RankInfo& rank, absl::Duration timeout);

// Gloo between the ranks of `store`: over loopback where all of them are of this host, else over
// the interface that GLOO_SOCKET_IFNAME names, or that from which MASTER_ADDR is reached.
c10::intrusive_ptr<c10d::Backend> MakeGloo(const c10::intrusive_ptr<c10d::Store>& store,
                                           const RankInfo& rank);

// NCCL, from a module that only a gang on GPUs loads (nccl_module.h). Throws TrainerError
// (CONFIG) where it cannot be loaded.
c10::intrusive_ptr<c10d::Backend> MakeNccl(const c10::intrusive_ptr<c10d::Store>& store,
                                           const RankInfo& rank);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_PARALLEL_RENDEZVOUS_H_
