#ifndef LIGER_WORKER_TRAINER_MODELS_WEIGHTS_H_
#define LIGER_WORKER_TRAINER_MODELS_WEIGHTS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "worker/trainer/checkpoint/safetensors.h"
#include "worker/trainer/models/causal_lm.h"

namespace liger::trainer {

// A parameter, or what the optimizer stores for it, as checkpoints hold it: under
// the family's name for it, or in pieces. The tensors are views.
std::vector<NamedTensor> CheckpointTensors(const ModelConfig& config, const std::string& name,
                                           const at::Tensor& parameter);

// Gives a parameter its values, by its name; for each of a model once, in the order of
// named_parameters().
using FillParameter = std::function<void(const std::string& name, at::Tensor parameter)>;

// From <model_dir>'s safetensors (one file or sharded), converted to the parameter's dtype, on any
// device. Throws ConfigError naming the tensor when one of `model`'s is missing, unexpected or of
// another shape, before anything is filled.
FillParameter FillFromFolder(const CausalLM& model, const std::string& model_dir);

// Gives one-dimensional `range` the elements of a parameter of that shape from `begin` on
// (row-major).
using FillRange = std::function<void(const std::string& name, const std::vector<int64_t>& shape,
                                     int64_t begin, at::Tensor range)>;
// As FillFromFolder, which reads no more than the range where a parameter is stored as it is or in
// pieces that follow each other.
FillRange FillRangesFromFolder(const CausalLM& model, const std::string& model_dir);

// Random, as transformers draws them: N(0, initializer_range) for matrices, ones for norms, zeros
// for biases and for the padding token's row of the embedding. Equal seeds give equal bits, on
// any number of threads, whatever the dtype and the device.
FillParameter FillAtRandom(const ModelConfig& config, uint64_t seed);

// Fills all of the model's parameters from the folder.
void LoadWeights(CausalLM& model, const std::string& model_dir);

// The checks of LoadWeights from the files' headers alone, without reading a
// weight.
void CheckWeights(const CausalLM& model, const std::string& model_dir);

// Fills all of them at random.
void InitializeWeights(CausalLM& model, uint64_t seed);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_MODELS_WEIGHTS_H_
