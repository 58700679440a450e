#include "worker/trainer/parallel/fsdp/unit_gatherer.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <memory>
#include <utility>

namespace liger::trainer {

UnitGatherer::UnitGatherer(c10::intrusive_ptr<c10d::Backend> group, at::Device device,
                           size_t buffers, CollectiveNotes notes)
    : group_(std::move(group)),
      device_(device),
      most_buffers_(buffers),
      notes_(std::move(notes)),
      side_(device),
      changed_(device) {}

UnitGatherer::~UnitGatherer() {
  // The buffers' memory must outlive what writes to it.
  for (Buffer& buffer : buffers_) EndGathers(buffer);
}

void UnitGatherer::EndGathers(Buffer& buffer) {
  for (const auto& gather : std::exchange(buffer.gathers, {})) {
    try {
      gather->wait();
    } catch (const std::exception&) {  // after an error the other ranks may be gone
    }
  }
}

UnitGatherer::Buffer* UnitGatherer::Find(const ShardUnit& unit) {
  for (Buffer& buffer : buffers_) {
    if (buffer.unit == &unit) return &buffer;
  }
  return nullptr;
}

void UnitGatherer::Wait(Buffer& buffer) {
  for (const auto& gather : buffer.gathers) notes_.Wait(*gather, "the gather of a block's weights");
  buffer.gathers.clear();
}

void UnitGatherer::Drop(Buffer& buffer) {
  if (!buffer.gathers.empty()) {  // nobody has waited for it: its memory is free after it
    Wait(buffer);
    buffer.free.Record();
  }
  if (buffer.unit != nullptr) buffer.unit->Lend(nullptr);
  buffer.unit = nullptr;
  buffer.in_use = false;
}

UnitGatherer::Buffer* UnitGatherer::FreeBuffer(const ShardUnit& unit, bool may_grow) {
  Buffer* oldest = nullptr;
  size_t shared = 0;
  if (unit.is_block) {
    for (Buffer& buffer : buffers_) {
      if (buffer.own) continue;
      ++shared;
      if (!buffer.in_use && (oldest == nullptr || buffer.used < oldest->used)) oldest = &buffer;
    }
  }
  const bool grows = !unit.is_block || shared < most_buffers_ || (oldest == nullptr && may_grow);
  if (grows) {
    oldest = &buffers_.emplace_back(device_);
    oldest->own = !unit.is_block;
  }
  return oldest;
}

at::Tensor UnitGatherer::NewMemory(const ShardUnit& unit, int64_t bytes) const {
  const auto options = at::TensorOptions(device_).dtype(at::kByte);
  const bool lasts = unit.is_block;
  if (!lasts || !group_->supportsTensorAlloc(device_.index())) return at::empty({bytes}, options);
  notes_.Issue();
  const std::shared_ptr<void> waits = notes_.Waiting("the memory that blocks are gathered into");
  return group_->allocateTensor(bytes, options);
}

bool UnitGatherer::Gather(ShardUnit& unit, bool may_grow) {
  const at::NoGradGuard no_grad;
  Buffer* buffer = FreeBuffer(unit, may_grow);
  if (buffer == nullptr) return false;
  if (buffer->unit != nullptr) Drop(*buffer);
  const int64_t bytes = unit.gathered_bytes();
  if (!buffer->memory.defined() || buffer->memory.numel() < bytes) {
    // The memory is the current stream's: what it did with it before comes first.
    buffer->memory = at::Tensor();  // what is there goes first
    buffer->memory = NewMemory(unit, bytes);
    buffer->free.Record();
  }
  unit.Lend(buffer->memory.data_ptr());
  buffer->unit = &unit;
  buffer->used = ++clock_;

  const SideStream::Use side(side_);
  buffer->free.CurrentStreamWaits();
  changed_.CurrentStreamWaits();
  for (const auto& part : unit.parts) {
    at::Tensor whole = part->whole(), own = part->own_part();
    part->FetchShard();
    notes_.Issue();
    buffer->gathers.push_back(group_->_allgather_base(whole, own));
  }
  return true;
}

void UnitGatherer::Prefetch(ShardUnit& unit) {
  if (Find(unit) == nullptr) Gather(unit, /*may_grow=*/false);
}

void UnitGatherer::Use(ShardUnit& unit) {
  if (Find(unit) == nullptr) Gather(unit, /*may_grow=*/true);
  Buffer& buffer = *Find(unit);
  Wait(buffer);
  buffer.in_use = true;
  buffer.used = ++clock_;
}

void UnitGatherer::Release(ShardUnit& unit) {
  Buffer* buffer = Find(unit);
  if (buffer == nullptr || !buffer->in_use) return;
  buffer->in_use = false;
  buffer->free.Record();
  if (!buffer->own) return;
  Drop(*buffer);
  buffers_.remove_if([&](const Buffer& b) { return &b == buffer; });
}

void UnitGatherer::Forget(ShardUnit& unit) {
  Buffer* buffer = Find(unit);
  if (buffer == nullptr) return;
  EndGathers(*buffer);
  buffer->free.Record();
  Drop(*buffer);
  if (buffer->own) buffers_.remove_if([&](const Buffer& b) { return &b == buffer; });
}

void UnitGatherer::ReleaseAll() {
  std::vector<ShardUnit*> used;
  for (Buffer& buffer : buffers_) {
    if (buffer.in_use) used.push_back(buffer.unit);
  }
  for (ShardUnit* unit : used) Release(*unit);
}

void UnitGatherer::Invalidate() {
  for (Buffer& buffer : buffers_) {
    if (buffer.in_use) buffer.free.Record();
    if (buffer.unit != nullptr) Drop(buffer);
  }
  buffers_.remove_if([](const Buffer& buffer) { return buffer.own; });
  changed_.Record();
}

}  // namespace liger::trainer
