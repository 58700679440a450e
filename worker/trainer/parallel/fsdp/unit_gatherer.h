#ifndef LIGER_WORKER_TRAINER_PARALLEL_FSDP_UNIT_GATHERER_H_
#define LIGER_WORKER_TRAINER_PARALLEL_FSDP_UNIT_GATHERER_H_

#include <torch/csrc/distributed/c10d/Backend.hpp>

#include <cstdint>
#include <list>
#include <vector>

#include "worker/trainer/parallel/fsdp/collective_notes.h"
#include "worker/trainer/parallel/fsdp/shard_unit.h"
#include "worker/trainer/side_stream.h"

namespace liger::trainer {

// Gathers units into memory that is lent to them. Blocks take turns on buffers of the largest
// block's size: two where each is let go of after use, since the next one is gathered while one is
// in use. What a buffer holds stays valid until another unit
// needs it or the parameters change, so that the last block of a forward pass is still there for
// the backward pass.
//
// All ranks of the group make the same calls in the same order.
class UnitGatherer {
 public:
  // `buffers`: for blocks, at least 2; more are made where more blocks are in use at once.
  UnitGatherer(c10::intrusive_ptr<c10d::Backend> group, at::Device device, size_t buffers,
               CollectiveNotes notes = {});
  ~UnitGatherer();

  // Begins to gather the unit, if it is not there, beside what the current stream has to do. Does
  // nothing for a block while all buffers are in use.
  void Prefetch(ShardUnit& unit);
  // Gathers the unit, if it is not there; what follows on the current stream may read it.
  void Use(ShardUnit& unit);
  // The current stream has been given all that reads the unit.
  void Release(ShardUnit& unit);
  void ReleaseAll();
  // Lets go of what is gathered of the unit, in use or not, or on its way; it may end then.
  void Forget(ShardUnit& unit);
  // The current stream has been given what changes the shards: nothing that is gathered is valid
  // any more, in use or not.
  void Invalidate();

 private:
  struct Buffer {
    explicit Buffer(at::Device device) : free(device) {}
    at::Tensor memory;  // bytes; undefined: none yet
    ShardUnit* unit = nullptr;
    bool in_use = false;
    bool own = false;   // the unit's alone, given back with it
    int64_t used = 0;   // when last; the oldest goes first
    StreamEvent free;   // after its last reader
    std::vector<c10::intrusive_ptr<c10d::Work>> gathers;  // in flight
  };

  Buffer* Find(const ShardUnit& unit);
  Buffer* FreeBuffer(const ShardUnit& unit, bool may_grow);
  // Of the kind that the group gathers best into, where it lasts and there is such a kind.
  at::Tensor NewMemory(const ShardUnit& unit, int64_t bytes) const;
  // False: no buffer.
  bool Gather(ShardUnit& unit, bool may_grow);
  void Drop(Buffer& buffer);
  void Wait(Buffer& buffer);
  // That where whoever watches over waits may be gone, and an error is nobody's.
  static void EndGathers(Buffer& buffer);

  c10::intrusive_ptr<c10d::Backend> group_;
  at::Device device_;
  const size_t most_buffers_;
  const CollectiveNotes notes_;
  SideStream side_;
  StreamEvent changed_;  // after the last change of the shards
  std::list<Buffer> buffers_;
  int64_t clock_ = 0;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_PARALLEL_FSDP_UNIT_GATHERER_H_
