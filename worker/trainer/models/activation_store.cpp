#include "worker/trainer/models/activation_store.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "worker/trainer/pinned_memory.h"

namespace liger::trainer {
namespace {

// Smaller ones stay on the device.
constexpr int64_t kLeastBytes = int64_t{1} << 16;

// Blocks whose copies may be under way when the next block begins.
constexpr size_t kBlocksLeaving = 1;

}  // namespace

class ActivationStore::Item {
 public:
  Item(std::vector<at::Tensor> tensors, at::Device device)
      : on_device(std::move(tensors)), on_host(on_device.size()), copied(device) {}
  // What is given back to the current stream's memory may still be written to.
  ~Item() {
    if (is_fetched) copied.CurrentStreamWaits();
  }
  Item(const Item&) = delete;
  Item& operator=(const Item&) = delete;

  std::vector<at::Tensor> on_device;  // those that have left: undefined
  std::vector<HostCopy> on_host;      // undefined of those that stay
  StreamEvent copied;                 // to the host, then back
  bool has_left = false;
  bool is_fetched = false;
};

ActivationStore::HostCopy ActivationStore::HostCopyLike(const at::Tensor& tensor) {
  const auto bytes = static_cast<int64_t>(tensor.nbytes());
  // PyTorch gives pinned memory in powers of two.
  const auto size = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(bytes)));
  std::vector<at::Tensor>& free = free_[size];
  HostCopy copy;
  if (free.empty()) {
    copy.block = PinnedMemory(size, at::kByte, tensor.device());
  } else {
    copy.block = std::move(free.back());
    free.pop_back();
  }
  copy.tensor = copy.block.narrow(0, 0, bytes).view(tensor.scalar_type());
  copy.tensor = tensor.is_non_overlapping_and_dense()
                    ? copy.tensor.as_strided(tensor.sizes(), tensor.strides())
                    : copy.tensor.view(tensor.sizes());
  return copy;
}

// Its blocks are free for what follows on the side stream.
void ActivationStore::Release(Item& item) {
  for (HostCopy& copy : item.on_host) {
    if (copy.block.defined()) free_[copy.block.numel()].push_back(std::move(copy.block));
  }
  item.on_host.clear();
}

std::shared_ptr<ActivationStore::Item> ActivationStore::Put(std::vector<at::Tensor> tensors) {
  auto item = std::make_shared<Item>(std::move(tensors), device_);
  if (device_.is_cpu()) return item;
  std::erase_if(items_, [](const std::weak_ptr<Item>& i) { return i.expired(); });
  items_.push_back(item);
  side_.WaitForCurrent();
  {
    const SideStream::Use use(side_);
    for (size_t i = 0; i < item->on_device.size(); ++i) {
      const at::Tensor& t = item->on_device[i];
      if (!t.defined() || static_cast<int64_t>(t.nbytes()) < kLeastBytes) continue;
      item->on_host[i] = HostCopyLike(t);
      item->on_host[i].tensor.copy_(t, /*non_blocking=*/true);
    }
    item->copied.Record();
  }
  leaving_.push_back(item);
  while (leaving_.size() > kBlocksLeaving) {
    Item& first = *leaving_.front();
    first.copied.CurrentStreamWaits();
    for (size_t i = 0; i < first.on_device.size(); ++i) {
      if (first.on_host[i].block.defined()) first.on_device[i].reset();
    }
    first.has_left = true;
    leaving_.pop_front();
  }
  return item;
}

void ActivationStore::Fetch(Item& item) {
  if (!item.has_left || item.is_fetched) return;
  item.is_fetched = true;
  for (size_t i = 0; i < item.on_host.size(); ++i) {
    const at::Tensor& host = item.on_host[i].tensor;
    if (!host.defined()) continue;
    item.on_device[i] = at::empty_strided(
        host.sizes(), host.strides(), at::TensorOptions(device_).dtype(host.scalar_type()));
  }
  // Their memory may still be in use by what the current stream holds.
  side_.WaitForCurrent();
  const SideStream::Use use(side_);
  for (size_t i = 0; i < item.on_host.size(); ++i) {
    const at::Tensor& host = item.on_host[i].tensor;
    if (host.defined()) item.on_device[i].copy_(host, /*non_blocking=*/true);
  }
  item.copied.Record();
}

std::vector<at::Tensor> ActivationStore::Take(Item& item) {
  if (device_.is_cpu()) return std::exchange(item.on_device, {});
  const auto is_this = [&](const std::shared_ptr<Item>& i) { return i.get() == &item; };
  std::erase_if(leaving_, is_this);
  std::erase_if(items_, [&](const std::weak_ptr<Item>& i) {
    return i.expired() || is_this(i.lock());
  });
  Fetch(item);
  item.copied.CurrentStreamWaits();
  Release(item);
  if (!items_.empty()) Fetch(*items_.back().lock());
  return std::exchange(item.on_device, {});
}

}  // namespace liger::trainer
