#include "worker/trainer/parallel/fsdp/shard_reducer.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

namespace liger::trainer {
namespace {

constexpr char kSum[] = "the sum of a block's gradients";
// Elements of all ranks that are brought to another dtype at once.
constexpr int64_t kPiece = int64_t{1} << 25;

void AddTo(at::Tensor shard, const at::Tensor& sum, bool first) {
  if (first) {
    shard.copy_(sum);
  } else {
    shard.add_(sum);
  }
}

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

at::Tensor ShardReducer::Scratch(at::Tensor& owner, int64_t numel) const {
  if (!owner.defined() || owner.numel() < numel) {
    owner = at::empty({numel}, at::TensorOptions(device_).dtype(reduce_));
  }
  return owner.narrow(0, 0, numel);
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
  const auto bytes = part.gathered_bytes();
  Buffer* buffer = FreeBuffer();
  if (buffer == nullptr) {  // a unit with more parts than buffers
    part.grad_whole = at::empty({part.layout().numel()},
                                at::TensorOptions(device_).dtype(part.gathered_dtype()));
    return;
  }
  buffer->free.CurrentStreamWaits();  // before the memory goes to something else, too
  if (!buffer->memory.defined() || buffer->memory.numel() < bytes) {
    buffer->memory = at::empty({bytes}, at::TensorOptions(device_).dtype(at::kByte));
  }
  buffer->lent = true;
  part.grad_whole = buffer->memory.narrow(0, 0, bytes).view(part.gathered_dtype());
}

c10::intrusive_ptr<c10d::Work> ShardReducer::Scatter(at::Tensor out, at::Tensor in) {
  notes_.Issue();
  return group_->_reduce_scatter_base(out, in);
}

void ShardReducer::Reduce(FlatParameter& part) {
  const at::NoGradGuard no_grad;
  const bool first = !part.grad_shard.defined();
  if (first) {
    part.grad_shard = at::empty({part.layout().shard_numel()},
                                at::TensorOptions(device_).dtype(gradient_));
  }
  const at::Tensor whole = std::exchange(part.grad_whole, at::Tensor());
  side_.WaitForCurrent();
  side_.Keep(whole);
  const SideStream::Use side(side_);
  if (whole.scalar_type() == reduce_) {
    ReduceAtOnce(part, whole, first);
  } else {
    ReduceInPieces(part, whole, first);
  }
  // On a GPU nothing of this waits; on a CPU the sum goes on while the backward pass does.
  FinishAllBut(device_.is_cpu() ? 1 : 0);
  for (Buffer& buffer : buffers_) {
    if (!buffer.memory.defined() || !buffer.memory.is_alias_of(whole)) continue;
    buffer.lent = false;
    buffer.free.Record();
  }
}

void ShardReducer::ReduceAtOnce(FlatParameter& part, const at::Tensor& whole, bool first) {
  const bool direct = first && gradient_ == reduce_;
  // On a CPU one sum may still be in use when the next begins.
  const at::Tensor out = direct ? part.grad_shard
                         : device_.is_cpu()
                             ? at::empty({part.layout().shard_numel()}, whole.options())
                             : Scratch(sum_, part.layout().shard_numel());
  pending_.push_back({&part, whole, out, first, Scatter(out, whole)});
}

void ShardReducer::ReduceInPieces(FlatParameter& part, const at::Tensor& whole, bool first) {
  const int64_t ranks = part.layout().ranks(), shard = part.layout().shard_numel();
  const int64_t most = std::max(FlatLayout::kAlign, kPiece / ranks);
  const at::Tensor by_rank = whole.view({ranks, shard});
  for (int64_t begin = 0; begin < shard; begin += most) {
    const int64_t count = std::min(most, shard - begin);
    const at::Tensor in = Scratch(piece_, ranks * count);
    in.view({ranks, count}).copy_(by_rank.narrow(1, begin, count));
    const at::Tensor out = Scratch(sum_, count);
    notes_.Wait(*Scatter(out, in), kSum);
    AddTo(part.grad_shard.narrow(0, begin, count), out, first);
  }
}

void ShardReducer::FinishOldest() {
  const at::NoGradGuard no_grad;
  const Pending oldest = std::move(pending_.front());
  pending_.pop_front();
  notes_.Wait(*oldest.work, kSum);
  if (!oldest.out.is_same(oldest.part->grad_shard)) {
    AddTo(oldest.part->grad_shard, oldest.out, oldest.first);
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
