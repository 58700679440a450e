#include "worker/trainer/loop/lora_setup.h"

#include <map>

namespace liger::trainer {

LoraSetup LoraSetup::Find(const liger::v1::LoraSpec& lora, const std::string& adapter_dir,
                          const CausalLM& model) {
  LoraSetup setup;
  setup.adapter_dir = adapter_dir;
  if (adapter_dir.empty()) {
    setup.config = AdapterConfig::FromSpec(lora);
    setup.targets = LoraTargets::Find(model, setup.config);
    setup.config.ensure_weight_tying = setup.targets.saves_tied_head;
  } else {
    setup.config = AdapterConfig::FromFolder(adapter_dir);
    setup.targets = LoraTargets::FindInFolder(model, setup.config, adapter_dir);
  }
  return setup;
}

void LoraSetup::StoreSavedIn(at::ScalarType storage, CausalLM& model) const {
  const at::NoGradGuard no_grad;
  for (const auto& item : model.named_parameters()) {
    at::Tensor parameter = item.value();
    if (!targets.saved.contains(item.key()) || parameter.scalar_type() == storage) continue;
    parameter.set_data(at::empty(parameter.sizes(), parameter.options().dtype(storage)));
  }
}

void LoraSetup::Attach(CausalLM& model, at::ScalarType storage, uint64_t seed) const {
  AttachAdapters(model, targets, storage);
  if (adapter_dir.empty()) {
    InitializeAdapters(targets, seed);
    InitializeMagnitudes(targets);
  } else {
    LoadAdapters(model, targets, adapter_dir);
  }
}

std::vector<NamedTensor> LoraSetup::Adapter(const std::vector<NamedTensor>& stored) const {
  std::vector<NamedTensor> trained;
  for (const NamedTensor& one : stored) {
    if (IsAdapterParameter(one.name) || targets.saved.contains(one.name)) trained.push_back(one);
  }
  return AdapterTensors(targets, trained);
}

std::vector<NamedTensor> LoraSetup::Merged(const std::vector<NamedTensor>& stored) const {
  std::map<std::string, NamedTensor> by_name;
  for (const NamedTensor& one : stored) by_name[one.name] = one;
  std::map<std::string, const LoraTargets::Layer*> adapted;
  for (const auto& layer : targets.layers) adapted[layer.name + ".weight"] = &layer;
  std::vector<NamedTensor> merged;
  for (const NamedTensor& one : stored) {
    if (IsAdapterParameter(one.name)) continue;
    NamedTensor& out = merged.emplace_back(one);
    const auto it = adapted.find(one.name);
    if (it == adapted.end()) continue;
    const std::string& layer = it->second->name;
    const NamedTensor a = by_name.at(layer + ".lora_A.weight");
    const NamedTensor b = by_name.at(layer + ".lora_B.weight");
    const bool dora = it->second->options.use_dora;
    const NamedTensor magnitude =
        dora ? by_name.at(layer + ".lora_magnitude_vector") : NamedTensor();
    out.make = [one, a, b, magnitude, scale = it->second->options.scale] {
      return MergedWeight(one.Value(), a.Value(), b.Value(), magnitude.Value(), scale);
    };
  }
  return merged;
}

}  // namespace liger::trainer
