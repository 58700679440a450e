#ifndef LIGER_TESTS_UNIT_FSDP_RANKS_H_
#define LIGER_TESTS_UNIT_FSDP_RANKS_H_

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <functional>

namespace liger::trainer::testing_ranks {

// The groups of one rank: all ranks; those that share a copy of a model; those that hold the same
// part of other copies (null: there is one copy).
struct Groups {
  int rank = 0;
  c10::intrusive_ptr<c10d::Backend> world, shards, replicas;
};

// Runs `work` on ranks that are threads of this process, in groups of `shards`; throws what a rank
// throws.
void RunRanks(int ranks, int shards, const std::function<void(const Groups&)>& work);

}  // namespace liger::trainer::testing_ranks

#endif  // LIGER_TESTS_UNIT_FSDP_RANKS_H_
