#ifndef LIGER_WORKER_TRAINER_CHECKPOINT_SAVED_TENSORS_H_
#define LIGER_WORKER_TRAINER_CHECKPOINT_SAVED_TENSORS_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace liger::trainer {

// Tensors of a checkpoint, read by ranges of their elements (row-major): a rank reads what it
// keeps, whoever wrote them.
class SavedTensors {
 public:
  virtual ~SavedTensors() = default;
  // By name.
  virtual const std::map<std::string, std::vector<int64_t>>& shapes() const = 0;
  // [count], on the host: over the mapped file where they are there in one piece (read only; keep
  // this alive meanwhile), else a copy. REQUIRES: the tensor has them.
  virtual at::Tensor Range(const std::string& name, int64_t begin, int64_t count) const = 0;
  // All of it.
  at::Tensor Whole(const std::string& name) const;
};

// Of one safetensors file, each tensor whole. Throws as SafetensorsFile::Open.
std::unique_ptr<const SavedTensors> OpenSavedTensors(const std::string& path);

// ---- In shards ----
//
// A checkpoint that N ranks have written: shard-0000r-of-0000N.safetensors holds what rank r has of
// each tensor, one-dimensional, and shards.json says what belongs together:
//
//   {"version": 1, "files": ["shard-00001-of-00002.safetensors", ...],
//    "parameters": {"model.norm.weight": {"shape": [576], "counts": [512, 64]}, ...},
//    "states": {"exp_avg.model.norm.weight": ..., "step": ...},
//    "reference": {"reference.model.norm.weight": ...}}
//
// counts: elements by file; they follow each other. reference: of a run that moves its reference.

inline constexpr char kShardsFile[] = "shards.json";
inline constexpr char kReferencePrefix[] = "reference.";
std::string ShardFile(int64_t rank, int64_t ranks);

struct ShardedTensor {
  std::vector<int64_t> shape;
  std::vector<int64_t> counts;
};
using ShardedTensors = std::map<std::string, ShardedTensor>;

// shards.json.
std::string ShardsJson(int64_t ranks, const ShardedTensors& parameters,
                       const ShardedTensors& states, const ShardedTensors& reference);

struct SavedShards {
  std::unique_ptr<const SavedTensors> parameters, states, reference;
};
// Throws TrainerError (CONFIG) with the file that is not as shards.json says.
SavedShards OpenShards(const std::string& dir);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_CHECKPOINT_SAVED_TENSORS_H_
