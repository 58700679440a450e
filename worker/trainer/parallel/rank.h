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
  int local_world_size = 1;  // ranks of this host
  std::string master_addr = "127.0.0.1";
  int master_port = 29500;
  // Whether something else serves the store at master_addr (torchrun's agent does); else rank 0.
  bool store_is_served = false;
  // Keeps the keys of a gang apart from those of one before it in the same store.
  std::string gang_name = "0";

  // RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT,
  // TORCHELASTIC_USE_AGENT_STORE, TORCHELASTIC_RESTART_COUNT; what is not set
  // keeps the default above. Throws TrainerError (CONFIG) naming the variable
  // that is not a number or contradicts another.
  static RankInfo FromEnvironment();
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_PARALLEL_RANK_H_
