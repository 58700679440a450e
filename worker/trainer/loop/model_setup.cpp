#include "worker/trainer/loop/model_setup.h"

#include <algorithm>
#include <map>
#include <string>

#include "worker/trainer/error.h"
#include "worker/trainer/loop/sharded_setup.h"
#include "worker/trainer/models/activation_checkpoint.h"
#include "worker/trainer/models/registry.h"
#include "worker/trainer/models/weights.h"

namespace liger::trainer {

std::vector<std::pair<std::string, at::Tensor>> NamedLeaves(const CausalLM& model) {
  std::vector<std::pair<std::string, at::Tensor>> leaves;
  for (const auto& item : model.named_parameters()) leaves.emplace_back(item.key(), item.value());
  return leaves;
}

void ApplyCheckpointing(const liger::v1::TrainingSpec& training, CausalLM& model) {
  if (!training.gradient_checkpointing()) return;
  // Specs stored by an older coordinator do not have the field.
  const int64_t every = std::max(1, training.gradient_checkpointing_every());
  const int64_t blocks = model.config().num_hidden_layers;
  if (every > blocks) {
    throw ConfigError("training.gradient_checkpointing_every: " + std::to_string(every) +
                          " is more than the model's " + std::to_string(blocks) +
                          " blocks, so that all but the first would keep their activations",
                      "Use 1 for every block, or turn training.gradient_checkpointing off.")
        .Field("training.gradient_checkpointing_every");
  }
  ApplyActivationCheckpointing(
      model, {.every = every,
              .keep_attention = training.gradient_checkpointing_keep_attention(),
              .offload = training.activation_offloading()});
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
  result.loaded = BitSumsOf(*result.model);
  result.model->train();
  result.parameters =
      std::make_unique<TrainableParameters>(NamedLeaves(*result.model), precision, IsMagnitude);
  ApplyCheckpointing(spec.training(), *result.model);
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
  if (trainable.sharding) return MakeShardedReference(spec, trainable);
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

MixReference MixerOf(const TrainableModel& trainable) {
  if (!trainable.sharding) return nullptr;
  return [sharding = trainable.sharding](double alpha) {
    sharding->reference.lock()->MoveToward(sharding->model, alpha);
  };
}

std::vector<NamedTensor> StoredParameters(const TrainableModel& trainable) {
  if (trainable.sharding) return trainable.sharding->assembly.Parameters();
  std::map<std::string, at::Tensor> stored;
  for (const auto& entry : trainable.parameters->entries()) stored[entry.name] = entry.storage;
  std::vector<NamedTensor> tensors;
  for (const auto& [name, leaf] : NamedLeaves(*trainable.model)) {
    const auto it = stored.find(name);
    tensors.push_back({name, (it == stored.end() ? leaf : it->second).detach()});
  }
  return tensors;
}

}  // namespace liger::trainer
