#ifndef LIGER_WORKER_TRAINER_PARALLEL_SEQUENCE_RANKS_H_
#define LIGER_WORKER_TRAINER_PARALLEL_SEQUENCE_RANKS_H_

#include <memory>
#include <string>

#include "worker/trainer/parallel/gang.h"
#include "worker/trainer/sequence_group.h"

namespace liger::trainer {

// Every `size` ranks in a row as a SequenceGroup (parallel.sequence_parallel_size), over a process
// group of their own on the device that the gang has opened; null for a size of 1. Every rank of
// the gang calls this. `size` divides the ranks; `gang` must outlive what is returned. Its calls
// count as collectives of the gang, so all groups must make equally many.
std::shared_ptr<const SequenceGroup> MakeSequenceGroup(Gang& gang, int size);
// For Strategy::Describe: ", of which each 2 share the tokens of a row"; empty for a size of 1.
std::string DescribeSequenceGroups(int size);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_PARALLEL_SEQUENCE_RANKS_H_
