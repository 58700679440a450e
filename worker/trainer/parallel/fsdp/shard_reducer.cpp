#include "worker/trainer/parallel/fsdp/shard_reducer.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

namespace liger::trainer {
namespace {

constexpr char kSum[] = "the sum of a block's gradients";

}  // namespace

ShardReducer::ShardReducer(c10::intrusive_ptr<c10d::Backend> group, at::ScalarType reduce,
                           at::ScalarType gradient, at::Device device, CollectiveNotes notes)
    : group_(std::move(group)),
      reduce_(reduce),
      gradient_(gradient),
      device_(device),
      notes_(std::move(notes)),
      side_(device),
      buffers_{Buffer(device), Buffer(device)} {}

ShardReducer::~ShardReducer() {
  // Its memory must outlive what writes to it. After an error the other ranks may be gone.
  for (Pending& pending : pending_) {
    try {
      pending.work->wait();
    } catch (const std::exception&) {
    }
  }
}

ShardReducer::Buffer* ShardReducer::FreeBuffer() {
  for (Buffer& buffer : buffers_) {
    const bool on_its_way =
        buffer.memory.defined() && std::ranges::any_of(pending_, [&](const Pending& pending) {
          return pending.whole.is_alias_of(buffer.memory);
        });
    if (!buffer.lent && !on_its_way) return &buffer;
  }
  return nullptr;
}

void ShardReducer::LendBuffer(FlatParameter& part) {
  const at::NoGradGuard no_grad;
  const int64_t numel = part.layout().numel();
  Buffer* buffer = FreeBuffer();
  if (buffer == nullptr) {  // a unit with more parts than buffers
    part.grad_whole = at::empty({numel}, at::TensorOptions(device_).dtype(reduce_));
    return;
  }
  buffer->free.CurrentStreamWaits();  // before the memory goes to something else, too
  if (!buffer->memory.defined() || buffer->memory.numel() < numel) {
    buffer->memory = at::empty({numel}, at::TensorOptions(device_).dtype(reduce_));
  }
  buffer->lent = true;
  part.grad_whole = buffer->memory.narrow(0, 0, numel);
}

void ShardReducer::Reduce(FlatParameter& part) {
  const at::NoGradGuard no_grad;
  const bool first = !part.grad_shard.defined();
  if (first) {
    part.grad_shard = part.home().Empty(part.layout().shard_numel(), gradient_);
  }
  const at::Tensor whole = std::exchange(part.grad_whole, at::Tensor());
  // NCCL sums into this rank's place of the input itself.
  const int64_t count = part.layout().shard_numel();
  at::Tensor in = whole, out;
  if (first && gradient_ == whole.scalar_type() && !part.home().on_host()) {
    out = part.grad_shard;
  } else if (device_.is_cpu()) {
    out = at::empty({count}, whole.options());
  } else {
    out = whole.narrow(0, part.rank() * count, count);
  }
  side_.WaitForCurrent();
  side_.Keep(whole);
  const SideStream::Use side(side_);
  notes_.Issue();
  pending_.push_back({&part, whole, out, first, group_->_reduce_scatter_base(out, in)});
  // On a GPU nothing of this waits; on a CPU the sum goes on while the backward pass does.
  FinishAllBut(device_.is_cpu() ? 1 : 0);
  for (Buffer& buffer : buffers_) {
    if (!buffer.memory.defined() || !buffer.memory.is_alias_of(whole)) continue;
    buffer.lent = false;
    buffer.free.Record();
  }
}

void ShardReducer::FinishOldest() {
  const at::NoGradGuard no_grad;
  const Pending oldest = std::move(pending_.front());
  pending_.pop_front();
  notes_.Wait(*oldest.work, kSum);
  const FlatParameter& part = *oldest.part;
  if (oldest.out.is_same(part.grad_shard)) return;
  if (oldest.first) {
    part.home().Store(part.grad_shard, oldest.out);
  } else {
    part.home().Add(part.grad_shard, oldest.out);
  }
}

void ShardReducer::FinishAllBut(size_t count) {
  while (pending_.size() > count) FinishOldest();
}

void ShardReducer::Wait() {
  FinishAllBut(0);
  side_.CurrentStreamWaits();
}

}  // namespace liger::trainer
