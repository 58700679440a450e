#ifndef LIGER_WORKER_TRAINER_MODELS_ACTIVATION_STORE_H_
#define LIGER_WORKER_TRAINER_MODELS_ACTIVATION_STORE_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "worker/trainer/side_stream.h"

namespace liger::trainer {

// Where activations are between a block's forward and backward pass: in the host's pinned memory.
// A GPU copies them there, and back before they are asked for, beside its work: the forward pass
// waits where it is more than one block ahead of the copies, and each block's are fetched while the
// block after it is computed. The host's memory is kept from one time to the next. On a CPU the
// tensors stay where they are.
//
// Of the thread that trains (autograd's, in the backward pass).
class ActivationStore {
 public:
  class Item;

  explicit ActivationStore(at::Device device) : device_(device), side_(device) {}

  // Takes the tensors; undefined ones may be among them, and others may still hold them.
  std::shared_ptr<Item> Put(std::vector<at::Tensor> tensors);
  // Gives them back, once. Begins to fetch those of the item that was put before this one.
  std::vector<at::Tensor> Take(Item& item);

 private:
  // The host's memory that stands for a tensor.
  struct HostCopy {
    at::Tensor block;   // bytes, a power of two of them
    at::Tensor tensor;  // in it
  };

  HostCopy HostCopyLike(const at::Tensor& tensor);
  void Release(Item& item);
  void Fetch(Item& item);

  const at::Device device_;
  SideStream side_;
  std::vector<std::weak_ptr<Item>> items_;     // not yet taken, in the order of Put
  std::deque<std::shared_ptr<Item>> leaving_;  // still on the device, on their way to the host
  // Free blocks by size. All copies from and to them are on the one side stream, so that what comes
  // next there may write to a block whose last copy is still under way.
  std::map<int64_t, std::vector<at::Tensor>> free_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_MODELS_ACTIVATION_STORE_H_
