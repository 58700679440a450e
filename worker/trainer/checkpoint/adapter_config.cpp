#include "worker/trainer/checkpoint/adapter_config.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string_view>

#include "worker/trainer/checkpoint/model_folder.h"
#include "worker/trainer/error.h"
#include "worker/trainer/json_file.h"

namespace liger::trainer {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr char kFileName[] = "adapter_config.json";
// PEFT release whose format this is.
constexpr char kPeftVersion[] = "0.21.2";

// Keys that are read, or that change nothing of a saved adapter's outputs. Each
// other key must be null, false or empty: it changes what the tensors mean.
constexpr std::string_view kKnownKeys[] = {"alpha_pattern",
                                           "auto_mapping",
                                           "base_model_name_or_path",
                                           "bias",
                                           "ensure_weight_tying",
                                           "exclude_modules",
                                           "fan_in_fan_out",
                                           "inference_mode",
                                           "init_lora_weights",
                                           "layers_pattern",
                                           "layers_to_transform",
                                           "lora_alpha",
                                           "lora_dropout",
                                           "megatron_core",
                                           "modules_to_save",
                                           "peft_type",
                                           "peft_version",
                                           "qalora_group_size",
                                           "r",
                                           "rank_pattern",
                                           "revision",
                                           "runtime_config",
                                           "target_modules",
                                           "task_type",
                                           "use_dora",
                                           "use_rslora"};

[[noreturn]] void Fail(const std::string& path, const std::string& key, const std::string& why,
                       const std::string& action = "Use a LoRA adapter without it.") {
  throw ConfigError(path + ": " + key + " " + why, action).File(path).Field("lora.adapter_uri");
}

bool IsNothing(const json& value) {
  return value.is_null() || value == false || value == "" ||
         (value.is_structured() && value.empty());
}

// Reads one key of the file.
class Reader {
 public:
  explicit Reader(const std::string& path) : path_(path), file_(ReadOrderedJsonObject(path)) {}

  const ordered_json& file() const { return file_; }

  // `fallback` when absent or null.
  template <typename T>
  T Get(const std::string& key, T fallback) const {
    const auto it = file_.find(key);
    if (it == file_.end() || it->is_null()) return fallback;
    try {
      return it->get<T>();
    } catch (const ordered_json::exception&) {
      Fail(path_, key, "= " + it->dump() + " is of the wrong type", "Write the folder again.");
    }
  }

  template <typename T>
  std::vector<std::pair<std::string, T>> Patterns(const std::string& key) const {
    std::vector<std::pair<std::string, T>> patterns;
    const ordered_json given = Get(key, ordered_json::object());
    for (const auto& [name, value] : given.items()) {
      const bool plain = std::all_of(name.begin(), name.end(), [](unsigned char c) {
        return std::isalnum(c) || c == '_' || c == '.' || c == '-';
      });
      if (!plain || name.empty()) {
        Fail(path_, key, "has the regular expression '" + name + "', which is not read here",
             "Name the layers there.");
      }
      if (!value.is_number()) Fail(path_, key + "." + name, "is no number");
      patterns.emplace_back(name, value.template get<T>());
    }
    return patterns;
  }

  void Refuse(const std::string& key, const std::string& why) const { Fail(path_, key, why); }

 private:
  std::string path_;
  ordered_json file_;
};

// The layer's own value where a pattern names it.
template <typename T>
T Find(const std::vector<std::pair<std::string, T>>& patterns, const std::string& layer,
       T fallback) {
  for (const auto& [end, value] : patterns) {
    if (layer == end || layer.ends_with("." + end)) return value;
  }
  return fallback;
}

// What changes the meaning of the tensors beyond LoRA, DoRA and rsLoRA.
void RefuseUnknown(const Reader& reader) {
  const std::string type = reader.Get<std::string>("peft_type", "");
  if (type != "LORA") reader.Refuse("peft_type", "= '" + type + "' is not LORA");
  if (const auto bias = reader.Get<std::string>("bias", "none"); bias != "none") {
    reader.Refuse("bias", "= '" + bias + "' trains biases, which is not done here");
  }
  if (reader.Get("fan_in_fan_out", false)) {
    reader.Refuse("fan_in_fan_out", "is for models with transposed weights, which none here has");
  }
  // PiSSA, OLoRA, LoftQ and CorDA start from a base that they change.
  const auto init = reader.file().find("init_lora_weights");
  if (init != reader.file().end() && init->is_string() && *init != "gaussian" && *init != "eva" &&
      *init != "orthogonal") {
    reader.Refuse("init_lora_weights", "= " + init->dump() + " changes the base model's weights");
  }
  for (const auto& [key, value] : reader.file().items()) {
    const bool known =
        std::find(std::begin(kKnownKeys), std::end(kKnownKeys), key) != std::end(kKnownKeys);
    if (!known && !IsNothing(value)) reader.Refuse(key, "is not implemented here");
  }
}

// In place of a folder that is no adapter's.
std::string WhatToName(const std::string& dir) {
  if (const std::string inside = FolderInside(dir, kFileName); !inside.empty()) {
    return "Name the adapter's own folder: " + inside + " in it.";
  }
  if (std::filesystem::exists(std::filesystem::path(dir) / "config.json")) {
    return "It is a whole model: name it as the model (model.uri) and leave lora.adapter_uri out; "
           "an adapter that was merged into it cannot be trained on alone.";
  }
  return "Name a folder that PEFT or a LoRA job has saved.";
}

std::vector<std::string> Sorted(std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

AdapterConfig AdapterConfig::FromSpec(const liger::v1::LoraSpec& lora) {
  AdapterConfig config;
  config.r = lora.r();
  config.lora_alpha = lora.lora_alpha();
  config.lora_dropout = lora.lora_dropout();
  config.target_modules.assign(lora.target_modules().begin(), lora.target_modules().end());
  config.modules_to_save.assign(lora.modules_to_save().begin(), lora.modules_to_save().end());
  config.use_rslora = lora.use_rslora();
  config.use_dora = lora.use_dora();
  return config;
}

AdapterConfig AdapterConfig::FromFolder(const std::string& dir) {
  const std::string path = (std::filesystem::path(dir) / kFileName).string();
  if (!std::filesystem::exists(path)) {
    throw ConfigError(dir + " is no adapter folder: it holds no " + kFileName, WhatToName(dir))
        .File(dir)
        .Field("lora.adapter_uri");
  }
  const Reader reader(path);
  RefuseUnknown(reader);
  AdapterConfig config;
  config.r = reader.Get<int64_t>("r", 8);
  config.lora_alpha = reader.Get<double>("lora_alpha", 8);
  config.lora_dropout = reader.Get<double>("lora_dropout", 0);
  if (config.r < 1) reader.Refuse("r", "= " + std::to_string(config.r) + " is not at least 1");
  if (!(config.lora_dropout >= 0 && config.lora_dropout < 1)) {
    reader.Refuse("lora_dropout", "is not in [0, 1)");
  }
  config.modules_to_save = reader.Get("modules_to_save", std::vector<std::string>());
  config.use_rslora = reader.Get("use_rslora", false);
  config.use_dora = reader.Get("use_dora", false);
  config.ensure_weight_tying = reader.Get("ensure_weight_tying", false);
  config.rank_pattern = reader.Patterns<int64_t>("rank_pattern");
  config.alpha_pattern = reader.Patterns<double>("alpha_pattern");
  config.file = reader.file();
  return config;
}

int64_t AdapterConfig::RankOf(const std::string& layer) const {
  return Find(rank_pattern, layer, r);
}

double AdapterConfig::ScaleOf(const std::string& layer) const {
  const double rank = static_cast<double>(RankOf(layer));
  return Find(alpha_pattern, layer, lora_alpha) / (use_rslora ? std::sqrt(rank) : rank);
}

ordered_json AdapterConfig::ToJson(const std::string& base_model,
                                   const std::vector<std::string>& targets) const {
  ordered_json out = file;
  if (file.is_null()) {
    out = {{"peft_type", "LORA"},
           {"task_type", "CAUSAL_LM"},
           {"peft_version", kPeftVersion},
           {"r", r},
           {"lora_alpha", lora_alpha},
           {"lora_dropout", lora_dropout},
           {"target_modules", Sorted(targets)},
           {"modules_to_save", nullptr},
           {"use_rslora", use_rslora},
           {"use_dora", use_dora},
           {"ensure_weight_tying", ensure_weight_tying},
           {"rank_pattern", json::object()},
           {"alpha_pattern", json::object()},
           {"bias", "none"},
           {"fan_in_fan_out", false},
           {"init_lora_weights", true}};
    if (!modules_to_save.empty()) out["modules_to_save"] = Sorted(modules_to_save);
    // A whole number as one, as PEFT declares it.
    if (lora_alpha == std::floor(lora_alpha) && lora_alpha < 1e15) {
      out["lora_alpha"] = static_cast<int64_t>(lora_alpha);
    }
  }
  out["base_model_name_or_path"] = base_model;
  out["inference_mode"] = true;
  return out;
}

}  // namespace liger::trainer
