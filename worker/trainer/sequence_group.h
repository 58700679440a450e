#ifndef LIGER_WORKER_TRAINER_SEQUENCE_GROUP_H_
#define LIGER_WORKER_TRAINER_SEQUENCE_GROUP_H_

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace liger::trainer {

// Devices that have the same sequences, each a part of their tokens: of T, a multiple of size(),
// place p has [p T / size(), (p + 1) T / size()). All that is done token by token needs nothing of
// the others. Attention does: there tokens are exchanged for heads (Jacobs et al. 2023,
// arXiv:2309.14509, "Ulysses"). All places make the same calls in the same order.
class SequenceGroup {
 public:
  virtual ~SequenceGroup() = default;

  virtual int64_t size() const = 0;
  virtual int64_t place() const = 0;
  // x [size(), ..], of one shape and dtype at all places: x[p] goes to place p, and what comes from
  // there is [p] of the result. Attached; gradients take the same ways back.
  virtual at::Tensor Exchange(const at::Tensor& x) const = 0;
  // Element-wise over the group, in place, without gradients; on the device of the tokens.
  virtual void Sum(at::Tensor values) const = 0;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_SEQUENCE_GROUP_H_
