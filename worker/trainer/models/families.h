#ifndef LIGER_WORKER_TRAINER_MODELS_FAMILIES_H_
#define LIGER_WORKER_TRAINER_MODELS_FAMILIES_H_

#include <memory>
#include <string>
#include <vector>

#include "worker/trainer/checkpoint/safetensors.h"
#include "worker/trainer/models/causal_lm.h"
#include "worker/trainer/models/config_reader.h"

namespace liger::trainer {

// Two functions a family, in its own file: what its config.json means, and the
// model. The table of model types is in registry.cpp.
#define LIGER_FAMILY(Name)                                                                      \
  ModelConfig Parse##Name(const ConfigReader& config);                                          \
  std::shared_ptr<CausalLM> Build##Name(const ModelConfig& config, const KernelChoice& kernels, \
                                        const at::TensorOptions& options)

LIGER_FAMILY(Llama);
LIGER_FAMILY(Mistral);
LIGER_FAMILY(Mixtral);
LIGER_FAMILY(Gemma);
LIGER_FAMILY(Gemma2);
LIGER_FAMILY(Qwen2);
LIGER_FAMILY(Qwen3);
LIGER_FAMILY(Phi3);

#undef LIGER_FAMILY

// A parameter as the hub's checkpoints have it: theirs are one matrix an expert,
// ours one tensor for all. The tensors are views.
std::vector<NamedTensor> MixtralCheckpointTensors(const std::string& name,
                                                  const at::Tensor& parameter);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_MODELS_FAMILIES_H_
