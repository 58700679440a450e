#ifndef LIGER_WORKER_TRAINER_LOOP_MODEL_IDENTITY_H_
#define LIGER_WORKER_TRAINER_LOOP_MODEL_IDENTITY_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>

#include "worker/trainer/models/causal_lm.h"

// Whether two processes, or two runs, have the same model.
namespace liger::trainer {

// Sums of parameters' bits by name: the same on any device, whatever order they are summed in.
using BitSums = std::map<std::string, int64_t>;
int64_t SumOfBits(const at::Tensor& parameter);
BitSums BitSumsOf(const CausalLM& model);
// 16 hexadecimal digits; "" of none.
std::string Checksum(const BitSums& sums);

// "sha256:...", of the parameters' names and shapes but an adapter's. The model may be on the meta
// device.
std::string ShapesDigest(const CausalLM& model);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_MODEL_IDENTITY_H_
