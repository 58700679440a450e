#include "worker/trainer/models/activation_store.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

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
      : on_device(std::move(tensors)), copied(device) {}

  std::vector<at::Tensor> on_device;  // those that have left: undefined
  std::vector<at::Tensor> on_host;    // those that are or will be there
  StreamEvent copied;                 // to the host, then back
  bool has_left = false;
  bool is_fetched = false;
};

std::shared_ptr<ActivationStore::Item> ActivationStore::Put(std::vector<at::Tensor> tensors) {
  auto item = std::make_shared<Item>(std::move(tensors), device_);
  if (device_.is_cpu()) return item;
  std::erase_if(items_, [](const std::weak_ptr<Item>& i) { return i.expired(); });
  items_.push_back(item);
  side_.WaitForCurrent();
  {
    const SideStream::Use use(side_);
    for (const at::Tensor& t : item->on_device) {
      at::Tensor host;
      if (t.defined() && static_cast<int64_t>(t.nbytes()) >= kLeastBytes) {
        host = at::empty_strided(t.sizes(), t.strides(),
                                 t.options().device(at::kCPU).pinned_memory(true));
        host.copy_(t, /*non_blocking=*/true);
      }
      item->on_host.push_back(std::move(host));
    }
    item->copied.Record();
  }
  leaving_.push_back(item);
  while (leaving_.size() > kBlocksLeaving) {
    Item& first = *leaving_.front();
    first.copied.CurrentStreamWaits();
    for (size_t i = 0; i < first.on_device.size(); ++i) {
      if (first.on_host[i].defined()) first.on_device[i].reset();
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
    const at::Tensor& host = item.on_host[i];
    if (!host.defined()) continue;
    item.on_device[i] =
        at::empty_strided(host.sizes(), host.strides(), host.options().device(device_)
                                                            .pinned_memory(false));
  }
  // Their memory may still be in use by what the current stream holds.
  side_.WaitForCurrent();
  const SideStream::Use use(side_);
  for (size_t i = 0; i < item.on_host.size(); ++i) {
    if (item.on_host[i].defined()) item.on_device[i].copy_(item.on_host[i], /*non_blocking=*/true);
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
  item.on_host.clear();
  if (!items_.empty()) Fetch(*items_.back().lock());
  return std::exchange(item.on_device, {});
}

}  // namespace liger::trainer
