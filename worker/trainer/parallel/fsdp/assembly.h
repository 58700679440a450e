#ifndef LIGER_WORKER_TRAINER_PARALLEL_FSDP_ASSEMBLY_H_
#define LIGER_WORKER_TRAINER_PARALLEL_FSDP_ASSEMBLY_H_

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "worker/trainer/checkpoint/safetensors.h"
#include "worker/trainer/checkpoint/saved_tensors.h"
#include "worker/trainer/parallel/fsdp/sharded_model.h"

namespace liger::trainer {

// Parameters and optimizer states for whoever saves them: each rank's shards, or, one at a time,
// the whole ones on the host of the rank that writes them. No rank holds the whole model anywhere.
class Assembly {
 public:
  // `model` must outlive this. `leads`: this rank is the one that writes; it is the first of its
  // group, and others of that group serve it. Copies of the model elsewhere have no part in it.
  Assembly(const ShardedModel& model, bool leads);

  // A copy of the model that the run moves, and that is saved while there is one.
  void SaveToo(const std::shared_ptr<const ShardedModel>& reference);

  // Collective. Runs `write` on the rank that leads and meanwhile hands it what it asks for on
  // the others. `states`: as Optimizer::StateDict gives them here, of this rank's parts. What
  // `write` throws is thrown there alone.
  void Run(const std::map<std::string, at::Tensor>& states, const std::function<void()>& write);

  // Every parameter in the order of the model, and the states, each made when its turn comes, in
  // `write`; the tensors beside say shape and dtype, and have no memory.
  std::vector<NamedTensor> Parameters();
  std::vector<NamedTensor> ReferenceParameters();
  std::vector<NamedTensor> States();

  struct Shard {
    std::string name;
    std::vector<int64_t> shape;
    at::Tensor own;                // this rank's elements, one-dimensional
    std::vector<int64_t> counts;   // elements by rank; they follow each other
  };
  // Of every trained parameter, of the states, as in Run (what is not sharded is the first rank's),
  // and of the reference's parameters.
  struct Shards {
    std::vector<Shard> parameters, states, reference;
  };
  Shards OwnShards(const std::map<std::string, at::Tensor>& states) const;
  // This rank's place among those that share the copy of the model that is saved, of which it is
  // one.
  bool is_saved() const { return leads_ || serves_; }
  int rank() const { return model_.options().shards->getRank(); }
  int ranks() const { return model_.options().shards->getSize(); }

  // Of states as a checkpoint has them, this rank's parts.
  std::map<std::string, at::Tensor> PartsOf(const SavedTensors& saved) const;

 private:
  using Source = Shard;

  Source SourceOf(const std::string& name, const ShardedModel::Place& place, at::Tensor own,
                  bool by_block) const;
  Source SourceOfState(const std::string& key, const at::Tensor& state) const;
  void ListSources(const std::map<std::string, at::Tensor>& states);
  std::vector<Source> SourcesOf(const ShardedModel& model, bool trained_only) const;
  NamedTensor Later(size_t index);
  // Asks for it, or takes it from what was asked for last.
  at::Tensor Whole(size_t index);
  // Collective: on the rank that leads the whole, else undefined.
  at::Tensor Collect(const Source& source);
  int64_t Tell(int64_t index);
  void Serve();

  const ShardedModel& model_;
  const bool leads_;
  bool serves_ = false;  // belongs to the group of the rank that leads
  std::vector<Source> sources_;
  size_t num_parameters_ = 0;  // of sources_, the first ones
  size_t num_reference_ = 0;   // behind them
  std::weak_ptr<const ShardedModel> reference_;
  std::map<std::string, at::Tensor> not_sharded_;
  std::deque<std::pair<size_t, at::Tensor>> recent_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_PARALLEL_FSDP_ASSEMBLY_H_
