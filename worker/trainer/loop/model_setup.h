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
#include "worker/trainer/models/causal_lm.h"
#include "worker/trainer/optim/parameters.h"
#include "worker/trainer/optim/precision.h"

namespace liger::trainer {

// A model ready to train: built in the storage dtype, weights loaded (or drawn
// when the spec says random_init), moved to the device, and then, in this
// order, the compute dtype and activation checkpointing applied from outside.
// With LoRA the base is built in the compute dtype and frozen.
struct TrainableModel {
  std::shared_ptr<CausalLM> model;
  std::unique_ptr<TrainableParameters> parameters;
  std::optional<LoraSetup> lora;
};

// `adapter_dir`: where spec.lora.adapter_uri lies.
TrainableModel MakeTrainableModel(const liger::v1::JobSpec& spec, const std::string& model_dir,
                                  const PrecisionPlan& precision, const Device& device,
                                  const std::string& adapter_dir = "");

// The model as it is now, frozen, on its device and in its compute dtype: what
// preference objectives compare with. It shares what is not trained: with LoRA all
// but copies of the modules saved whole and of an adapter that came from a folder;
// a new one, which has no effect yet, is left out.
std::shared_ptr<CausalLM> MakeReference(const liger::v1::JobSpec& spec,
                                        const TrainableModel& trainable);
// A copy of all of it.
std::shared_ptr<CausalLM> MakeReference(const liger::v1::JobSpec& spec, const CausalLM& model);

// The model's parameters with their Hugging Face names, as TrainableParameters
// takes them.
std::vector<std::pair<std::string, at::Tensor>> NamedLeaves(const CausalLM& model);

// Every parameter under its Hugging Face name, in the storage dtype: what is
// saved. Shares memory with the run.
std::vector<std::pair<std::string, at::Tensor>> StoredParameters(const TrainableModel& trainable);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_MODEL_SETUP_H_
