#include "worker/trainer/loop/model_setup.h"

#include <algorithm>
#include <map>

#include "worker/trainer/models/activation_checkpoint.h"
#include "worker/trainer/models/registry.h"
#include "worker/trainer/models/weights.h"

namespace liger::trainer {

std::vector<std::pair<std::string, at::Tensor>> NamedLeaves(const CausalLM& model) {
  std::vector<std::pair<std::string, at::Tensor>> leaves;
  for (const auto& item : model.named_parameters()) leaves.emplace_back(item.key(), item.value());
  return leaves;
}

TrainableModel MakeTrainableModel(const liger::v1::JobSpec& spec, const std::string& model_dir,
                                  const PrecisionPlan& precision, const Device& device,
                                  const std::string& adapter_dir) {
  TrainableModel result;
  const ModelConfig config = ModelConfig::FromFolder(model_dir);
  // Where it stays: weights go from their files straight to the device.
  result.model = BuildModel(config, spec.kernels(),
                            at::TensorOptions(device.torch())
                                .dtype(spec.has_lora() ? precision.compute : precision.storage));
  if (spec.has_lora()) {
    result.lora = LoraSetup::Find(spec.lora(), adapter_dir, *result.model);
    result.lora->StoreSavedIn(precision.storage, *result.model);
  }
  if (spec.model().random_init()) {
    InitializeWeights(*result.model, static_cast<uint64_t>(spec.training().seed()));
  } else {
    LoadWeights(*result.model, model_dir);
  }
  if (result.lora) {
    result.lora->Attach(*result.model, precision.storage,
                        static_cast<uint64_t>(spec.training().seed()));
  }
  result.model->train();
  result.parameters =
      std::make_unique<TrainableParameters>(NamedLeaves(*result.model), precision, IsMagnitude);
  if (spec.training().gradient_checkpointing()) {
    // Specs stored by an older coordinator do not have the field.
    const int64_t every = std::max(1, spec.training().gradient_checkpointing_every());
    ApplyActivationCheckpointing(*result.model, every);
  }
  return result;
}

std::shared_ptr<CausalLM> MakeReference(const liger::v1::JobSpec& spec, const CausalLM& model) {
  const at::NoGradGuard no_grad;
  const auto source = model.named_parameters();
  const at::TensorOptions options = source[0].value().options().requires_grad(false);
  const auto reference = BuildModel(model.config(), spec.kernels(), options);
  for (const auto& item : reference->named_parameters()) {
    at::Tensor parameter = item.value();
    parameter.copy_(source[item.key()]);
    parameter.requires_grad_(false);
  }
  reference->eval();
  return reference;
}

std::shared_ptr<CausalLM> MakeReference(const liger::v1::JobSpec& spec,
                                        const TrainableModel& trainable) {
  const CausalLM& model = *trainable.model;
  if (!trainable.lora) return MakeReference(spec, model);
  // On the host, where memory that is never touched costs nothing.
  const auto source = model.named_parameters();
  const auto frozen = trainable.lora->targets.layers.front().linear->weight.scalar_type();
  const auto reference = BuildModel(model.config(), spec.kernels(), frozen);
  if (!trainable.lora->adapter_dir.empty()) {
    const LoraSetup copy = LoraSetup::Find(spec.lora(), trainable.lora->adapter_dir, *reference);
    AttachAdapters(*reference, copy.targets, at::kFloat);
  }
  for (const auto& item : reference->named_parameters()) {
    at::Tensor parameter = item.value();
    const at::Tensor& from = source[item.key()];
    parameter.requires_grad_(false);
    parameter.set_data(from.requires_grad() ? from.detach().clone() : from.detach());
  }
  reference->eval();
  return reference;
}

std::vector<std::pair<std::string, at::Tensor>> StoredParameters(const TrainableModel& trainable) {
  std::map<std::string, at::Tensor> stored;
  for (const auto& entry : trainable.parameters->entries()) stored[entry.name] = entry.storage;
  auto leaves = NamedLeaves(*trainable.model);
  for (auto& [name, tensor] : leaves) {
    if (const auto it = stored.find(name); it != stored.end()) tensor = it->second;
    tensor = tensor.detach();
  }
  return leaves;
}

}  // namespace liger::trainer
