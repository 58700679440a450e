#ifndef LIGER_WORKER_TRAINER_PARALLEL_FSDP_SHARDED_MODEL_H_
#define LIGER_WORKER_TRAINER_PARALLEL_FSDP_SHARDED_MODEL_H_

#include <torch/csrc/distributed/c10d/Backend.hpp>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/gradient_place.h"
#include "worker/trainer/gradient_sum.h"
#include "worker/trainer/models/causal_lm.h"
#include "worker/trainer/optim/precision.h"
#include "worker/trainer/parallel/fsdp/shard_reducer.h"
#include "worker/trainer/parallel/fsdp/shard_unit.h"
#include "worker/trainer/parallel/fsdp/unit_gatherer.h"

namespace liger::trainer {

struct ShardOptions {
  // The ranks that share one copy of the model. Gradients are summed over them, and then over
  // `replicas`, the ranks that hold the same part of other copies; none: there are no others.
  c10::intrusive_ptr<c10d::Backend> shards, replicas;
  CollectiveNotes notes;
  at::Device device = at::kCPU;
  PrecisionPlan precision;
  // As TrainableParameters': what is computed with in the storage dtype.
  std::function<bool(std::string_view)> keeps_storage;
  // In which dtype ranks are summed.
  at::ScalarType reduce = at::kFloat;
  // ZeRO-3; false: the parameters are whole on every rank, and only gradients and optimizer
  // states are sharded (ZeRO-2).
  bool shards_parameters = true;
  // Where shards_parameters: a block is let go of after its forward pass and gathered again for
  // its backward pass.
  bool reshard_after_forward = true;
  // Shards, their gradients and with them the optimizer's states are in the host's memory.
  bool on_host = false;
};

// A model whose parameters are sharded over ranks (fully sharded data parallel, ZeRO-3:
// Rajbhandari et al. 2020, arXiv:1910.02054; Zhao et al. 2023, arXiv:2304.11277). Applied from
// outside, last: it runs what block runner the model has, with the block's weights gathered.
//
//   forward    the next block is gathered while one computes
//   backward   the block before is; gradients are summed over the ranks beside it
//   head       gathered once a step; its gradients add up in fp32 on each rank and are summed
//              over the ranks once (as those of the last norm, and of an embedding that is the
//              head)
//
// Collective: all ranks build it, run the same passes and end the same steps. The ranks' sums
// are not averaged: objectives scale by the counts of the whole step.
class ShardedModel {
 public:
  // Gives a leaf, on the host or the device, its values; called for each parameter in the order
  // of named_parameters(), after which its memory is let go of: no more than one parameter is
  // whole here at once. None: they have them.
  using Fill = std::function<void(const std::string& name, at::Tensor leaf)>;

  // `model`, in its storage dtype, must outlive this. Its leaves may be on the host, where memory
  // that is never touched costs nothing.
  ShardedModel(CausalLM& model, ShardOptions options, const Fill& fill = nullptr);
  ~ShardedModel();
  ShardedModel(const ShardedModel&) = delete;
  ShardedModel& operator=(const ShardedModel&) = delete;

  // A frozen copy of `source` as it is now, for `model` of the same shape and with the same
  // adapters, in the dtype that source computes in. Shards of what source does not train are
  // source's own. Takes turns on source's buffers; `source` must outlive it. `on_host`: its own
  // shards rest in the host's memory, whatever source's do.
  static std::unique_ptr<ShardedModel> FrozenCopy(const ShardedModel& source, CausalLM& model,
                                                  bool on_host = false);
  // Of a FrozenCopy of `source`: moves it, by the factor `alpha`, toward what source computes with
  // now, in fp32.
  void MoveToward(const ShardedModel& source, double alpha);
  // Lets go of what passes without gradients have left gathered.
  void LetGo();
  // The shards have changed: nothing that was gathered is valid any more.
  void ShardsChanged() { gatherer_->Invalidate(); }
  // Makes `model`, of the same shape with or without adapters, read what this one does not train,
  // without gradients: a reference of an adapted model. Its other parameters stay as they are.
  void ReadBy(CausalLM& model);

  // After each backward pass: sums what is still to be summed, lets go of what is gathered.
  void FinishBackward();
  // After the last one: the sums of all ranks' gradients, of this rank's shards.
  void FinishGradients();
  // Collective. Lets go of the gradients; the shards have changed.
  void EndStep();

  // Collective: adds up `values`, of any device, over the ranks that share this copy, in place.
  void SumOverShards(at::Tensor values, const char* what) const;

  // Where a kept unit's leaf adds up its gradient on this rank, for an op that adds to it by itself
  // (TrainableParameters::DirectGradient); nullopt: the leaf is not trained, or not of a kept unit.
  std::optional<GradientSum> SumOf(const at::Tensor& leaf);
  // That sum is whole: starts to sum it over the ranks, if nothing else adds to it.
  void FinishSumOf(const at::Tensor& leaf);

  const std::vector<std::unique_ptr<ShardUnit>>& units() const { return units_; }
  // Where a parameter is.
  struct Place {
    ShardUnit* unit = nullptr;
    FlatParameter* part = nullptr;
    size_t item = 0;
  };
  const Place& PlaceOf(const std::string& name) const { return places_.at(name); }
  const Place* FindPlace(const std::string& name) const {
    const auto place = places_.find(name);
    return place == places_.end() ? nullptr : &place->second;
  }
  const ShardOptions& options() const { return options_; }

 private:
  ShardedModel(ShardOptions options, std::shared_ptr<UnitGatherer> gatherer);

  void MakeUnits(CausalLM& model);
  ShardUnit& AddUnit(const std::string& name, bool tied);
  void AddPart(ShardUnit& unit, std::unique_ptr<FlatParameter> part);
  // Makes `model`'s passes gather the units.
  void Install(CausalLM& model);
  void BeginForward();
  BlockOutput RunBlock(size_t block, const BlockRunner& inner, const BlockFn& function,
                       const at::Tensor& hidden_TD);
  void BeginBackward(size_t block);
  void EndBackward(size_t block);
  void OnLeafGradient(const Place& place, const at::Tensor& grad);
  // For the products that make it; undefined: they make it elsewhere.
  at::Tensor PlaceForGradient(const Place& place);
  void Reduce(ShardUnit& unit);
  void SumOverCopies();
  // The place of `but`, if given, is left as it is.
  void MakeGradientSum(FlatParameter& part, std::optional<size_t> but = std::nullopt);
  bool lets_go() const { return options_.shards_parameters; }
  ShardHome home() const { return {options_.device, options_.on_host}; }

  ShardOptions options_;
  std::shared_ptr<UnitGatherer> gatherer_;
  std::unique_ptr<ShardReducer> reducer_;
  std::vector<std::unique_ptr<ShardUnit>> units_;  // in the order of the forward pass
  ShardUnit* embedding_ = nullptr;                 // of units_
  std::vector<ShardUnit*> blocks_, after_blocks_;  // of units_
  std::map<std::string, Place> places_;
  std::deque<kernels::GradientPlace> gradient_places_;
  // Since EndStep: there was a forward pass with gradients; kept parts summed already.
  bool has_gradients_ = false;
  std::set<const FlatParameter*> summed_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_PARALLEL_FSDP_SHARDED_MODEL_H_
