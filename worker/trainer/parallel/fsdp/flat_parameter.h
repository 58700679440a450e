#ifndef LIGER_WORKER_TRAINER_PARALLEL_FSDP_FLAT_PARAMETER_H_
#define LIGER_WORKER_TRAINER_PARALLEL_FSDP_FLAT_PARAMETER_H_

#include <ATen/core/Tensor.h>
#include <c10/core/Storage.h>

#include <cstdint>
#include <string>
#include <vector>

#include "worker/trainer/parallel/fsdp/flat_layout.h"
#include "worker/trainer/parallel/fsdp/shard_home.h"

namespace liger::trainer {

// Parameters of one unit that are alike: trained or not, of one dtype. This rank keeps its part
// of them, the shard, in the storage dtype, at home; whole they exist in memory lent for the time
// of use, on the device and in the dtype that the model computes in.
//
// The model's leaves keep their identity: their data are views of one storage of this object,
// whose address changes with the memory lent. So views that autograd saved in the forward pass
// (weight.t() of a product) see the weights gathered again for the backward pass, too.
class FlatParameter {
 public:
  struct Leaf {
    std::string name;
    at::Tensor tensor;
  };

  // `leaves`: alike in requires_grad. Each is still to be taken: its values copied, its data
  // bound. `stored`: the shard's dtype.
  FlatParameter(std::vector<Leaf> leaves, at::ScalarType stored, at::ScalarType gathered,
                int64_t rank, int64_t ranks, const ShardHome& home);
  FlatParameter(const FlatParameter&) = delete;
  FlatParameter& operator=(const FlatParameter&) = delete;

  // Copies this rank's part of the leaf into the shard.
  void CopyValues(size_t item);
  // The shard is `other`'s, of the same layout, dtype and home; this one's memory goes.
  void ShareShard(const FlatParameter& other) { shard_ = other.shard_; }
  // Makes `leaf` a view of what is gathered for the item; its own memory goes.
  void Bind(size_t item, at::Tensor leaf) const;
  void BindLeaf(size_t item) const { Bind(item, leaves_[item]); }

  const FlatLayout& layout() const { return layout_; }
  bool trained() const { return trained_; }
  at::ScalarType gathered_dtype() const { return gathered_; }
  const std::vector<at::Tensor>& leaves() const { return leaves_; }
  // [shard_numel], the storage dtype.
  const at::Tensor& shard() const { return shard_; }
  int64_t rank() const { return rank_; }
  const ShardHome& home() const { return home_; }
  // This rank's elements of an item in `shard` or something of its size, maybe none; a view.
  at::Tensor SliceOf(size_t item, const at::Tensor& of) const;

  int64_t gathered_bytes() const;
  // Lends memory of gathered_bytes() at `memory`; nullptr takes it back.
  void Lend(void* memory);
  // All of it [layout().numel()], in the memory lent.
  const at::Tensor& whole() const { return whole_; }
  // This rank's part of it.
  at::Tensor own_part() const;
  // Fills that from the shard, on the current stream.
  void FetchShard() const { home_.Fetch(own_part(), shard_); }

  // ---- This step's gradient ----

  // Of this rank [shard_numel], at home; undefined where there is none yet.
  at::Tensor grad_shard;
  // Of all elements [layout().numel()], of this rank's tokens, on its way to the shards.
  at::Tensor grad_whole;
  // By item: whether grad_whole has it.
  std::vector<bool> grad_written;

  // By item: whether its place was given to who makes its gradient (PlaceForGradient).
  std::vector<bool> grad_lent;

  // Where an item's gradient is to be made, if nothing of it is there or on its way; undefined.
  at::Tensor PlaceForGradient(size_t item);
  // Adds a leaf's gradient, if defined, to grad_whole (which exists). It may be there already.
  void AddGradient(size_t item, const at::Tensor& grad);
  // Zeros for those without any.
  void ZeroTheRest();
  at::Tensor GradientOf(size_t item) const;  // view of grad_whole
  // Nothing of it is there.
  void ForgetGradient();

 private:
  const at::ScalarType gathered_;
  const bool trained_;
  const ShardHome home_;
  const int64_t rank_;
  FlatLayout layout_;
  std::vector<at::Tensor> leaves_;
  c10::Storage storage_;
  at::Tensor whole_, shard_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_PARALLEL_FSDP_FLAT_PARAMETER_H_
