#ifndef LIGER_WORKER_TRAINER_PARALLEL_FSDP_SHARD_HOME_H_
#define LIGER_WORKER_TRAINER_PARALLEL_FSDP_SHARD_HOME_H_

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace liger::trainer {

// Where a rank's shards and their gradients rest between uses, and with them the optimizer's
// states and its update: on the device that computes, or in the host's memory
// (parallel.cpu_offload), pinned where the device is another one. The one place that tells the two
// apart. Copies are queued on the current stream.
class ShardHome {
 public:
  // `device`: the one that computes; a CPU's memory is the host's either way, and `on_host` then
  // takes the same steps as beside a GPU.
  ShardHome(at::Device device, bool on_host) : device_(device), on_host_(on_host) {}

  at::Device device() const { return device_; }
  bool on_host() const { return on_host_; }
  // Memory at home [numel], zeros or unwritten.
  at::Tensor Zeros(int64_t numel, at::ScalarType dtype) const;
  at::Tensor Empty(int64_t numel, at::ScalarType dtype) const;

  // ---- Between home and the device ----

  // `target`, on the device and of any dtype, becomes `home`.
  void Fetch(at::Tensor target, const at::Tensor& home) const;
  // `home` on the device: itself where that is its home, else a copy.
  at::Tensor OnDevice(const at::Tensor& home) const;
  // `home`, of any dtype, becomes `source`, which is on the device; or it is added.
  void Store(at::Tensor home, const at::Tensor& source) const;
  void Add(at::Tensor home, const at::Tensor& source) const;
  // The host may read and change what is at home: it waits for the copies of the current stream.
  void HostWaits() const;

 private:
  const at::Device device_;
  const bool on_host_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_PARALLEL_FSDP_SHARD_HOME_H_
