#ifndef LIGER_WORKER_TRAINER_LOOP_RANK_AGREEMENT_H_
#define LIGER_WORKER_TRAINER_LOOP_RANK_AGREEMENT_H_

#include <string>
#include <utility>
#include <vector>

#include "worker/trainer/parallel/strategy.h"

namespace liger::trainer {

using Facts = std::vector<std::pair<std::string, std::string>>;  // names and values

// Ranks on several hosts read several disks. Throws TrainerError (CONFIG) on every rank, naming
// what differs ("the training rows") and where, unless all of them have the same `facts` as rank 0.
void RequireAgreement(Strategy& strategy, const Facts& facts);

// "the training rows: 3 and 4", the other's value first; "": the same. What both tell comes before
// what only one of them does: that may follow from it.
std::string DifferenceOf(const Facts& first, const Facts& other);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_RANK_AGREEMENT_H_
