#ifndef LIGER_WORKER_TRAINER_MODELS_LORA_H_
#define LIGER_WORKER_TRAINER_MODELS_LORA_H_

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "worker/trainer/checkpoint/adapter_config.h"
#include "worker/trainer/checkpoint/safetensors.h"
#include "worker/trainer/models/causal_lm.h"
#include "worker/trainer/models/lora_layer.h"

namespace liger::trainer {

// Which parts of a model an adapter changes, as PEFT finds them. Layers are
// nn.Linear modules of transformers' model: experts and routers of a mixture are
// none there, and none here.
struct LoraTargets {
  struct Layer {
    std::string name;  // "model.layers.0.self_attn.q_proj"
    std::shared_ptr<Linear> linear;
    LoraOptions options;
  };
  std::vector<Layer> layers;
  // Parameters of config.modules_to_save, trained whole.
  std::set<std::string> saved;
  // The head is the embedding, and saved.
  bool saves_tied_head = false;

  // Layers by config.target_modules. Throws TrainerError (CONFIG) naming the entry
  // that matches nothing, or no linear layer. Works on the meta device.
  static LoraTargets Find(const CausalLM& model, const AdapterConfig& config);
  // Layers by the tensors of a PEFT folder. Throws TrainerError (CONFIG) naming
  // the tensors that are missing, of another shape or unknown to the model.
  static LoraTargets FindInFolder(const CausalLM& model, const AdapterConfig& config,
                                  const std::string& dir);

  // The layers' names as adapter_config.json has them: config.target_modules, or
  // for all-linear the ends of all their names.
  std::vector<std::string> NamesForConfig(const AdapterConfig& config) const;
};

// Parameters trained with `targets`: of the adapters and of what is saved whole.
int64_t TrainableNumel(const CausalLM& model, const LoraTargets& targets);

// Gives each target its adapter in `dtype`, uninitialised. All else but
// targets.saved stops asking for gradients.
void AttachAdapters(CausalLM& model, const LoraTargets& targets, at::ScalarType dtype);
// A new adapter, which changes nothing yet once the layers have their weights and
// InitializeMagnitudes has seen them: of all layers, or of the one whose weight has this name.
void InitializeAdapters(const LoraTargets& targets, uint64_t seed);
void InitializeMagnitudes(const LoraTargets& targets, const std::string& weight_name = "");
// Fills adapters and saved modules from a PEFT folder that FindInFolder took.
void LoadAdapters(CausalLM& model, const LoraTargets& targets, const std::string& dir);

// Whether the parameter of this name is an adapter's.
bool IsAdapterParameter(std::string_view name);
// A DoRA magnitude: to be computed with in its storage dtype, since bf16 knows no
// number between 1 and 1.0078.
bool IsMagnitude(std::string_view name);

// Trained parameters under their names in adapter_model.safetensors. A tied head
// that is saved is there twice, as PEFT has it.
std::vector<NamedTensor> AdapterTensors(const LoraTargets& targets,
                                        const std::vector<NamedTensor>& trained);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_MODELS_LORA_H_
