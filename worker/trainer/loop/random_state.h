#ifndef LIGER_WORKER_TRAINER_LOOP_RANDOM_STATE_H_
#define LIGER_WORKER_TRAINER_LOOP_RANDOM_STATE_H_

#include <ATen/core/Generator.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "worker/trainer/checkpoint/safetensors.h"
#include "worker/trainer/checkpoint/safetensors_writer.h"
#include "worker/trainer/parallel/strategy.h"

namespace liger::trainer {

// The generators that training on `device` draws from, by name of their device.
std::map<std::string, at::Generator> Generators(at::Device device);

// Seeds them for a rank, whose noise is to be another one than rank 0's.
void SeedRank(uint64_t seed, const RankInfo& rank);

// Their states on all ranks, which take part: "cpu" and "cuda" of rank 0, "cpu.rank3" of another.
std::vector<NamedTensor> GatherRandomState(at::Device device, Strategy& strategy);

// Sets those of a rank to what GatherRandomState gave, where that has them: a run may go on on a
// device of another kind, or on more ranks.
void RestoreRandomState(const SafetensorsFile& states, at::Device device, int rank);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_RANDOM_STATE_H_
