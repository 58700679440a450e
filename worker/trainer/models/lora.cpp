#include "worker/trainer/models/lora.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>

#include "common/spec/suggest.h"
#include "worker/trainer/checkpoint/adapter_folder.h"
#include "worker/trainer/checkpoint/weights.h"
#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

constexpr char kHead[] = "lm_head", kTiedHead[] = "lm_head.weight";
constexpr char kEmbedding[] = "model.embed_tokens",
               kEmbeddingWeight[] = "model.embed_tokens.weight";
constexpr std::string_view kA = ".lora_A.weight", kB = ".lora_B.weight",
                           kMagnitude = ".lora_magnitude_vector";

using Modules = std::vector<std::pair<std::string, std::shared_ptr<torch::nn::Module>>>;

Modules NamedModules(const CausalLM& model) {
  Modules modules;
  for (const auto& item : model.named_modules("", /*include_self=*/false)) {
    modules.emplace_back(item.key(), item.value());
  }
  return modules;
}

std::shared_ptr<Linear> AsLinear(const std::shared_ptr<torch::nn::Module>& module) {
  return std::dynamic_pointer_cast<Linear>(module);
}

// As PEFT matches target_modules.
bool EndsAsName(const std::string& name, const std::string& end) {
  return name == end || name.ends_with("." + end);
}

std::string Join(const std::set<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

// "down_proj", "gate_proj", ...
std::set<std::string> LinearNames(const Modules& modules) {
  std::set<std::string> ends;
  for (const auto& [name, module] : modules) {
    if (AsLinear(module) && name != kHead) ends.insert(name.substr(name.rfind('.') + 1));
  }
  return ends;
}

// Names that may have been meant: each layer's last parts, as many as `target` has.
std::string NearestLayer(const std::string& target, const Modules& modules) {
  const int64_t dots = std::count(target.begin(), target.end(), '.');
  std::set<std::string> ends = {kAllLinear};
  for (const auto& [name, module] : modules) {
    if (!AsLinear(module) || name == kHead) continue;
    size_t at = name.size();
    for (int64_t i = 0; i <= dots && at != std::string::npos && at > 0; ++i) {
      at = name.rfind('.', at - 1);
    }
    ends.insert(at == std::string::npos ? name : name.substr(at + 1));
  }
  return DidYouMean(target, {ends.begin(), ends.end()});
}

[[noreturn]] void FailTarget(const std::string& target, const std::string& why,
                             const Modules& modules) {
  throw ConfigError("lora.target_modules: '" + target + "' " + why,
                    "name linear layers of this model (" + Join(LinearNames(modules)) +
                        ") or all-linear")
      .Field("lora.target_modules");
}

LoraOptions OptionsOf(const AdapterConfig& config, const std::string& layer) {
  return {config.RankOf(layer), config.ScaleOf(layer), config.lora_dropout, config.use_dora};
}

bool IsSaved(const LoraTargets& targets, const std::string& module) {
  const auto it = targets.saved.lower_bound(module + ".");
  return it != targets.saved.end() && it->starts_with(module + ".");
}

// PEFT takes modules_to_save by the plain end of the name, and a head that is its
// embedding by either name.
void FindSaved(const CausalLM& model, const AdapterConfig& config, const Modules& modules,
               LoraTargets& targets) {
  const bool tied = model.config().tie_word_embeddings;
  for (const std::string& end : config.modules_to_save) {
    bool found = false;
    const auto save = [&](const std::string& module_name, const torch::nn::Module& module) {
      found = true;
      for (const auto& parameter : module.named_parameters()) {
        targets.saved.insert(module_name + "." + parameter.key());
      }
    };
    for (const auto& [name, module] : modules) {
      if (name.ends_with(end) && !module->parameters().empty()) save(name, *module);
    }
    if (tied && std::string_view(kHead).ends_with(end)) {
      found = true;
      targets.saved.insert(kEmbeddingWeight);
    }
    if (found) continue;
    throw ConfigError("lora.modules_to_save: '" + end + "' is the end of no module's name",
                      "name modules of this model, such as embed_tokens or lm_head")
        .Field("lora.modules_to_save");
  }
  targets.saves_tied_head = tied && targets.saved.contains(kEmbeddingWeight);
  if (targets.saves_tied_head && !config.ensure_weight_tying) {
    throw ConfigError(
        "lora.adapter_uri: the adapter trains " + std::string(kEmbedding) +
            " or the head apart from the other, which are one matrix in this model",
        "use an adapter made with ensure_weight_tying=True, or untie the model's head first")
        .Field("lora.adapter_uri");
  }
}

std::vector<ExpectedTensor> ExpectedTensors(const CausalLM& model, const LoraTargets& targets) {
  std::vector<ExpectedTensor> expected;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    expected.push_back({kAdapterPrefix + name, std::move(shape)});
  };
  for (const auto& layer : targets.layers) {
    const int64_t out = layer.linear->weight.size(0), in = layer.linear->weight.size(1);
    add(layer.name + std::string(kA), {layer.options.r, in});
    add(layer.name + std::string(kB), {out, layer.options.r});
    if (layer.options.use_dora) add(layer.name + std::string(kMagnitude), {out});
  }
  const auto parameters = model.named_parameters();
  for (const std::string& name : targets.saved) add(name, parameters[name].sizes().vec());
  return expected;
}

// Losses take the head's weight as it is, and embeddings are looked up in theirs.
void RefuseAdaptedEnds(const WeightReader& reader, const std::string& dir) {
  for (const auto& [module, suffix] : {std::pair<std::string, const char*>(kHead, ".lora_A.weight"),
                                       {kEmbedding, ".lora_embedding_A"}}) {
    if (!reader.Has(kAdapterPrefix + module + suffix)) continue;
    throw ConfigError("the adapter in " + dir + " has low-rank weights of " + module +
                          ", which cannot carry an adapter here",
                      "merge it into the model with PEFT (merge_and_unload) and train a new one, "
                      "or use one with " +
                          module + " in modules_to_save")
        .File(dir)
        .Field("lora.adapter_uri");
  }
}

}  // namespace

LoraTargets LoraTargets::Find(const CausalLM& model, const AdapterConfig& config) {
  const Modules modules = NamedModules(model);
  LoraTargets targets;
  FindSaved(model, config, modules, targets);
  const bool all = config.target_modules == std::vector<std::string>{kAllLinear};
  std::set<std::string> unmatched(config.target_modules.begin(), config.target_modules.end());
  for (const auto& [name, module] : modules) {
    const auto target =
        std::find_if(config.target_modules.begin(), config.target_modules.end(),
                     [&name = name](const std::string& end) { return EndsAsName(name, end); });
    if (!all && target == config.target_modules.end()) continue;
    const auto linear = AsLinear(module);
    if (all && (!linear || name == kHead)) continue;
    if (!linear) FailTarget(*target, "is " + name + ", which is no linear layer", modules);
    if (name == kHead) FailTarget(*target, "is the head, whose losses know no adapter", modules);
    unmatched.erase(all ? kAllLinear : *target);
    if (!IsSaved(targets, name)) targets.layers.push_back({name, linear, OptionsOf(config, name)});
  }
  if (!unmatched.empty()) {
    const std::string& target = *unmatched.begin();
    FailTarget(target, "is the end of no layer's name" + NearestLayer(target, modules), modules);
  }
  if (targets.layers.empty()) {
    FailTarget(Join({config.target_modules.begin(), config.target_modules.end()}),
               "leaves no layer beside lora.modules_to_save", modules);
  }
  return targets;
}

LoraTargets LoraTargets::FindInFolder(const CausalLM& model, const AdapterConfig& config,
                                      const std::string& dir) {
  const WeightReader reader = WeightReader::OpenAdapter(dir);
  RefuseAdaptedEnds(reader, dir);
  const Modules modules = NamedModules(model);
  LoraTargets targets;
  FindSaved(model, config, modules, targets);
  for (const auto& [name, module] : modules) {
    const auto linear = AsLinear(module);
    if (!linear || name == kHead || !reader.Has(kAdapterPrefix + name + std::string(kA))) continue;
    targets.layers.push_back({name, linear, OptionsOf(config, name)});
  }
  // PEFT saves a tied head beside its embedding, or not.
  reader.Check(ExpectedTensors(model, targets), [&targets](std::string_view name) {
    return targets.saves_tied_head && name == std::string(kAdapterPrefix) + kTiedHead;
  });
  if (targets.layers.empty()) {
    throw ConfigError("the adapter in " + dir + " has no layer of this model",
                      "name the model that the adapter was trained for")
        .File(dir)
        .Field("lora.adapter_uri");
  }
  return targets;
}

std::vector<std::string> LoraTargets::NamesForConfig(const AdapterConfig& config) const {
  if (config.target_modules != std::vector<std::string>{kAllLinear}) return config.target_modules;
  std::set<std::string> ends;
  for (const Layer& layer : layers) ends.insert(layer.name.substr(layer.name.rfind('.') + 1));
  return {ends.begin(), ends.end()};
}

int64_t TrainableNumel(const CausalLM& model, const LoraTargets& targets) {
  int64_t total = 0;
  for (const auto& layer : targets.layers) {
    const int64_t out = layer.linear->weight.size(0), in = layer.linear->weight.size(1);
    total += layer.options.r * (in + out) + (layer.options.use_dora ? out : 0);
  }
  const auto parameters = model.named_parameters();
  for (const std::string& name : targets.saved) total += parameters[name].numel();
  return total;
}

void AttachAdapters(CausalLM& model, const LoraTargets& targets, at::ScalarType dtype) {
  for (const auto& parameter : model.named_parameters()) {
    at::Tensor leaf = parameter.value();
    leaf.requires_grad_(targets.saved.contains(parameter.key()));
  }
  for (const auto& layer : targets.layers) LoraLayer::Attach(*layer.linear, layer.options, dtype);
}

void InitializeAdapters(const LoraTargets& targets, uint64_t seed) {
  at::Generator generator = at::detail::createCPUGenerator(seed);
  for (const auto& layer : targets.layers) {
    static_cast<LoraLayer&>(*layer.linear->adapter).Initialize(generator);
  }
}

void InitializeMagnitudes(const LoraTargets& targets, const std::string& name) {
  for (const auto& layer : targets.layers) {
    if (!name.empty() && layer.name + ".weight" != name) continue;
    static_cast<LoraLayer&>(*layer.linear->adapter).InitializeMagnitude(*layer.linear);
  }
}

void LoadAdapters(CausalLM& model, const LoraTargets& targets, const std::string& dir) {
  const WeightReader reader = WeightReader::OpenAdapter(dir);
  const at::NoGradGuard no_grad;
  for (const auto& parameter : model.named_parameters()) {
    const std::string& name = parameter.key();
    if (!IsAdapterParameter(name) && !targets.saved.contains(name)) continue;
    reader.CopyInto(kAdapterPrefix + name, parameter.value());
  }
}

bool IsAdapterParameter(std::string_view name) {
  return name.ends_with(kA) || name.ends_with(kB) || IsMagnitude(name);
}

bool IsMagnitude(std::string_view name) { return name.ends_with(kMagnitude); }

std::vector<NamedTensor> AdapterTensors(const LoraTargets& targets,
                                        const std::vector<NamedTensor>& trained) {
  std::vector<NamedTensor> tensors;
  for (const NamedTensor& one : trained) {
    tensors.push_back({kAdapterPrefix + one.name, one.tensor, one.make});
    if (targets.saves_tied_head && one.name == kEmbeddingWeight) {
      tensors.push_back({std::string(kAdapterPrefix) + kTiedHead, one.tensor, one.make});
    }
  }
  return tensors;
}

}  // namespace liger::trainer
