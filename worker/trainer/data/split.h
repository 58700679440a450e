#ifndef LIGER_WORKER_TRAINER_DATA_SPLIT_H_
#define LIGER_WORKER_TRAINER_DATA_SPLIT_H_

#include "worker/trainer/data/dataset.h"
#include "worker/trainer/data/example.h"

namespace liger::trainer {

// The rows of one source, after dropping, packed if the job packs.
struct Split {
  ExampleSet examples;
  DataStats stats;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_SPLIT_H_
