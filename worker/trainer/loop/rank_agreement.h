#ifndef LIGER_WORKER_TRAINER_LOOP_RANK_AGREEMENT_H_
#define LIGER_WORKER_TRAINER_LOOP_RANK_AGREEMENT_H_

#include <string>
#include <utility>
#include <vector>

#include "worker/trainer/parallel/strategy.h"

namespace liger::trainer {

// Ranks on several hosts read several disks. Throws TrainerError (CONFIG) on every rank, naming
// what differs ("the training rows") and where, unless all of them have the same `facts` (names
// and values) as rank 0.
void RequireAgreement(Strategy& strategy,
                      const std::vector<std::pair<std::string, std::string>>& facts);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_RANK_AGREEMENT_H_
