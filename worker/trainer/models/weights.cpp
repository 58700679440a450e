#include "worker/trainer/models/weights.h"

#include <ATen/CPUGeneratorImpl.h>

#include "worker/trainer/checkpoint/weights.h"
#include "worker/trainer/models/registry.h"

namespace liger::trainer {
namespace {

IgnorablePredicate Ignorable(const CausalLM& model) {
  const ModelType& type = FindModelType(model.config().model_type);
  return [&type, config = model.config()](std::string_view name) {
    return type.ignores_weight(config, name);
  };
}

}  // namespace

std::vector<NamedTensor> CheckpointTensors(const ModelConfig& config, const std::string& name,
                                           const at::Tensor& parameter) {
  const auto pieces = FindModelType(config.model_type).checkpoint_tensors;
  return pieces ? pieces(name, parameter) : std::vector<NamedTensor>{{name, parameter}};
}

void LoadWeights(CausalLM& model, const std::string& model_dir) {
  const at::NoGradGuard no_grad;  // the targets may be views of parameters
  std::vector<NamedTensor> targets;
  for (const auto& parameter : model.named_parameters()) {
    const auto pieces = CheckpointTensors(model.config(), parameter.key(), parameter.value());
    targets.insert(targets.end(), pieces.begin(), pieces.end());
  }
  WeightReader::Open(model_dir).LoadInto(targets, Ignorable(model));
}

void CheckWeights(const CausalLM& model, const std::string& model_dir) {
  std::vector<ExpectedTensor> expected;
  for (const auto& parameter : model.named_parameters()) {
    for (const NamedTensor& piece :
         CheckpointTensors(model.config(), parameter.key(), parameter.value())) {
      expected.push_back({piece.name, piece.tensor.sizes().vec()});
    }
  }
  WeightReader::Open(model_dir).Check(expected, Ignorable(model));
}

void InitializeWeights(CausalLM& model, uint64_t seed) {
  const at::NoGradGuard no_grad;
  at::Generator generator = at::detail::createCPUGenerator(seed);
  for (const auto& parameter : model.named_parameters()) {
    at::Tensor value = parameter.value();
    if (parameter.key().ends_with(".bias")) {
      value.zero_();
    } else if (value.dim() == 1) {
      value.fill_(model.config().unit_offset_norms ? 0 : 1);  // a norm's
    } else {
      // In fp32 and on the host, so that every dtype and device starts from the same.
      at::Tensor drawn = value.scalar_type() == at::kFloat && value.is_cpu()
                             ? value
                             : at::empty(value.sizes(), at::kFloat);
      drawn.normal_(0, model.config().initializer_range, generator);
      if (!drawn.is_same(value)) value.copy_(drawn);
    }
  }
  if (const auto pad = model.config().pad_token_id) model.EmbeddingWeight()[*pad].zero_();
}

}  // namespace liger::trainer
