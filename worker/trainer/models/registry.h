#ifndef LIGER_WORKER_TRAINER_MODELS_REGISTRY_H_
#define LIGER_WORKER_TRAINER_MODELS_REGISTRY_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "worker/trainer/checkpoint/safetensors.h"
#include "worker/trainer/models/causal_lm.h"
#include "worker/trainer/models/config_reader.h"

namespace liger::trainer {

// What the trainer knows about a model_type of config.json.
struct ModelType {
  std::string_view name;
  ModelConfig (*parse)(const ConfigReader&);
  std::shared_ptr<CausalLM> (*build)(const ModelConfig&, const KernelChoice&,
                                     const at::TensorOptions&);
  // What kernels.mode LIGER means for it.
  KernelChoice default_kernels;
  // A parameter as checkpoints hold it, under other names or in pieces (views);
  // nullptr: as it is.
  std::vector<NamedTensor> (*checkpoint_tensors)(const std::string& name,
                                                 const at::Tensor& parameter);
  // Whether a checkpoint may hold this tensor although the model has no such
  // parameter.
  bool (*ignores_weight)(const ModelConfig&, std::string_view name);
};

// Throws ConfigError that lists the known types.
const ModelType& FindModelType(const std::string& model_type);

// The model with uninitialised parameters, by default fp32 on the CPU; fill them
// with LoadWeights or InitializeWeights (weights.h). On the meta device only
// their names and shapes exist, and take no memory.
std::shared_ptr<CausalLM> BuildModel(const ModelConfig& config,
                                     const liger::v1::KernelSpec& kernels,
                                     const at::TensorOptions& options = at::kFloat);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_MODELS_REGISTRY_H_
