#ifndef LIGER_WORKER_TRAINER_LOOP_MODEL_SETUP_H_
#define LIGER_WORKER_TRAINER_LOOP_MODEL_SETUP_H_

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "worker/trainer/loop/device.h"
#include "worker/trainer/loop/lora_setup.h"
#include "worker/trainer/loop/model_identity.h"
#include "worker/trainer/models/causal_lm.h"
#include "worker/trainer/models/weights.h"
#include "worker/trainer/objectives/objective.h"
#include "worker/trainer/optim/parameters.h"
#include "worker/trainer/optim/precision.h"
#include "worker/trainer/parallel/fsdp/assembly.h"
#include "worker/trainer/parallel/fsdp/sharded_model.h"
#include "worker/trainer/parallel/strategy.h"

namespace liger::trainer {

// A model's parameters in the shards of the ranks, and how they come together.
struct Sharding {
  Sharding(CausalLM& model, const ShardOptions& options, const FillParameter& fill, bool leads)
      : model(model, options, fill), assembly(this->model, leads) {}

  ShardedModel model;
  Assembly assembly;
  std::weak_ptr<ShardedModel> reference;  // a frozen copy, while there is one
};

// A model ready to train: built in the storage dtype, weights loaded (or drawn
// when the spec says random_init), moved to the device, and then, in this
// order, the compute dtype, activation checkpointing and sharding applied from outside.
// With LoRA the base is built in the compute dtype and frozen.
struct TrainableModel {
  std::shared_ptr<CausalLM> model;
  // Where ranks share the parameters: this rank's part; null: it has all of them.
  std::shared_ptr<Sharding> sharding;
  std::unique_ptr<TrainableParameters> parameters;
  std::optional<LoraSetup> lora;
  // Of the whole of each parameter as it was loaded or drawn, in the dtype in which it is kept.
  BitSums loaded;
};

// `adapter_dir`: where spec.lora.adapter_uri lies.
TrainableModel MakeTrainableModel(const liger::v1::JobSpec& spec, const std::string& model_dir,
                                  const PrecisionPlan& precision, const Device& device,
                                  const std::string& adapter_dir = "");
// The same, sharded over strategy's ranks, which take part; no more than one parameter is whole on
// a rank at once. REQUIRES: strategy.sharded().
TrainableModel MakeShardedModel(const liger::v1::JobSpec& spec, const std::string& model_dir,
                                const PrecisionPlan& precision, const Device& device,
                                const std::string& adapter_dir, const Strategy& strategy);

// The model as it is now, frozen, on its device and in its compute dtype: what
// preference objectives compare with. It shares what is not trained: with LoRA all
// but copies of the modules saved whole and of an adapter that came from a folder;
// a new one, which has no effect yet, is left out. Of a sharded model it is sharded alike.
std::shared_ptr<CausalLM> MakeReference(const liger::v1::JobSpec& spec,
                                        const TrainableModel& trainable);
// How that reference moves toward the model (Objective::SetReference).
MixReference MixerOf(const TrainableModel& trainable);
// A copy of all of it.
std::shared_ptr<CausalLM> MakeReference(const liger::v1::JobSpec& spec, const CausalLM& model);

// The model's parameters with their Hugging Face names, as TrainableParameters
// takes them.
std::vector<std::pair<std::string, at::Tensor>> NamedLeaves(const CausalLM& model);

// Every parameter under its Hugging Face name, in the storage dtype: what is
// saved. Shares memory with the run; of a sharded model, what Assembly::Parameters gives.
std::vector<NamedTensor> StoredParameters(const TrainableModel& trainable);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_MODEL_SETUP_H_
