#include "worker/trainer/parallel/fsdp/shard_home.h"

#include <ATen/ATen.h>

#include "worker/trainer/pinned_memory.h"
#include "worker/trainer/side_stream.h"

namespace liger::trainer {

at::Tensor ShardHome::Empty(int64_t numel, at::ScalarType dtype) const {
  if (on_host_) return PinnedMemory(numel, dtype, device_);
  return at::empty({numel}, at::TensorOptions(device_).dtype(dtype));
}

at::Tensor ShardHome::Zeros(int64_t numel, at::ScalarType dtype) const {
  return Empty(numel, dtype).zero_();
}

at::Tensor ShardHome::OnDevice(const at::Tensor& home) const {
  if (!on_host_) return home;
  return home.to(device_, home.scalar_type(), /*non_blocking=*/true, /*copy=*/true);
}

void ShardHome::Fetch(at::Tensor target, const at::Tensor& home) const {
  // Another dtype is made on the device: on the host it would hold up this thread.
  const bool direct = !on_host_ || target.scalar_type() == home.scalar_type();
  target.copy_(direct ? home : OnDevice(home), /*non_blocking=*/true);
}

void ShardHome::Store(at::Tensor home, const at::Tensor& source) const {
  // Of the home's dtype when it leaves the device, so that the copy is one between equals.
  home.copy_(source.to(home.scalar_type()), /*non_blocking=*/true);
}

void ShardHome::Add(at::Tensor home, const at::Tensor& source) const {
  if (!on_host_) {
    home.add_(source);
    return;
  }
  home.copy_(OnDevice(home).add_(source), /*non_blocking=*/true);
}

void ShardHome::HostWaits() const {
  if (!on_host_) return;
  StreamEvent copied(device_);
  copied.Record();
  copied.HostWaits();
}

}  // namespace liger::trainer
