#ifndef LIGER_WORKER_TRAINER_MODELS_ROTARY_H_
#define LIGER_WORKER_TRAINER_MODELS_ROTARY_H_

#include <ATen/core/Tensor.h>

#include "worker/trainer/models/model_config.h"

namespace liger::trainer {

// Frequencies of rotary position embedding [R], fp32 on the CPU:
// theta^(-2i / H), for llama3 divided by `factor` where the wavelength exceeds
// the original context and blended in between. Computed in fp32 in the order
// transformers does, so that the angles agree bit for bit.
at::Tensor RopeFrequencies(const ModelConfig& config);

struct RopeTables {
  at::Tensor cos_TH, sin_TH;  // the R angles twice over, as rotate_half needs
};

// Angles in fp32, the tables in `dtype`.
RopeTables MakeRopeTables(const at::Tensor& frequencies_R, const at::Tensor& positions_T,
                          at::ScalarType dtype);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_MODELS_ROTARY_H_
