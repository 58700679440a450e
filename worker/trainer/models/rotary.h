#ifndef LIGER_WORKER_TRAINER_MODELS_ROTARY_H_
#define LIGER_WORKER_TRAINER_MODELS_ROTARY_H_

#include <ATen/core/Tensor.h>

#include "worker/trainer/models/rope_config.h"

namespace liger::trainer {

// Frequencies of rotary position embedding [R], fp32 on the CPU, for a batch
// whose longest sequence has `length` tokens (dynamic and longrope depend on it,
// as in transformers: on the batch, not on each sequence). Computed in fp32 in
// the order transformers does, so that the angles agree to the last bits.
at::Tensor RopeFrequencies(const RopeConfig& rope, int64_t length);

struct RopeTables {
  at::Tensor cos_UH, sin_UH;  // the R angles twice over, as rotate_half needs
};

// Makes the tables of a forward pass; keeps frequencies on the device while they
// do not change.
class RotaryEmbedding {
 public:
  explicit RotaryEmbedding(RopeConfig rope) : rope_(std::move(rope)) {}

  // Angles in fp32, the tables in `dtype` on the positions' device.
  RopeTables Tables(const at::Tensor& positions_U, int64_t length, at::ScalarType dtype);

 private:
  RopeConfig rope_;
  int64_t length_ = -1;  // that frequencies_R_ were made for
  at::Tensor frequencies_R_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_MODELS_ROTARY_H_
