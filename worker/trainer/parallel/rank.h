#ifndef LIGER_WORKER_TRAINER_PARALLEL_RANK_H_
#define LIGER_WORKER_TRAINER_PARALLEL_RANK_H_

#include <cstdint>
#include <string>

namespace liger::trainer {

// This process's place in its gang, under torchrun's environment names.
struct RankInfo {
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;
  std::string master_addr = "127.0.0.1";
  int master_port = 29500;

  // RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT; what is not set
  // keeps the default above. Throws TrainerError (CONFIG) naming the variable
  // that is not a number or contradicts another.
  static RankInfo FromEnvironment();
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_PARALLEL_RANK_H_
