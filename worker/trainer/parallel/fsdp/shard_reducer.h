#ifndef LIGER_WORKER_TRAINER_PARALLEL_FSDP_SHARD_REDUCER_H_
#define LIGER_WORKER_TRAINER_PARALLEL_FSDP_SHARD_REDUCER_H_

#include <torch/csrc/distributed/c10d/Backend.hpp>

#include <array>
#include <deque>

#include "worker/trainer/parallel/fsdp/collective_notes.h"
#include "worker/trainer/parallel/fsdp/flat_parameter.h"
#include "worker/trainer/side_stream.h"

namespace liger::trainer {

// Sums gradients over the ranks of a group, each rank getting its part, beside the backward pass.
//
// Whole gradients lie in two buffers by turns: while one is on its way, the other is filled. They
// have the dtype of the sums there already: each step of work between the backward pass and the
// collective would wait for products that hold the whole device.
class ShardReducer {
 public:
  // reduce: the dtype of buffers, in which ranks are summed; gradient: that of grad_shard, in
  // which micro-batches are.
  ShardReducer(c10::intrusive_ptr<c10d::Backend> group, at::ScalarType reduce,
               at::ScalarType gradient, at::Device device, CollectiveNotes notes = {});
  ~ShardReducer();

  at::ScalarType dtype() const { return reduce_; }
  // Gives part.grad_whole a buffer, undefined values in it.
  void LendBuffer(FlatParameter& part);
  // Adds the ranks' grad_whole, of any dtype, to grad_shard, and lets go of grad_whole. Returns
  // before it is done.
  void Reduce(FlatParameter& part);
  // What follows on the current stream sees all of it done.
  void Wait();

 private:
  struct Buffer {
    explicit Buffer(at::Device device) : free(device) {}
    at::Tensor memory;
    bool lent = false;
    StreamEvent free;
  };
  struct Pending {
    FlatParameter* part;
    at::Tensor whole, out;
    bool first;  // grad_shard has nothing yet
    c10::intrusive_ptr<c10d::Work> work;
  };

  // Neither being filled nor on its way; nullptr: both are.
  Buffer* FreeBuffer();
  void FinishOldest();
  void FinishAllBut(size_t count);

  c10::intrusive_ptr<c10d::Backend> group_;
  const at::ScalarType reduce_, gradient_;
  const at::Device device_;
  const CollectiveNotes notes_;
  SideStream side_;
  std::array<Buffer, 2> buffers_;
  std::deque<Pending> pending_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_PARALLEL_FSDP_SHARD_REDUCER_H_
