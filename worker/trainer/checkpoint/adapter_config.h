#ifndef LIGER_WORKER_TRAINER_CHECKPOINT_ADAPTER_CONFIG_H_
#define LIGER_WORKER_TRAINER_CHECKPOINT_ADAPTER_CONFIG_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "liger/v1/job_spec.pb.h"

namespace liger::trainer {

inline constexpr char kAllLinear[] = "all-linear";

// What PEFT's LoraConfig says of an adapter (adapter_config.json).
struct AdapterConfig {
  int64_t r = 16;
  double lora_alpha = 32;
  double lora_dropout = 0;
  // Ends of names, or kAllLinear alone. Empty for a folder's: its tensors say it.
  std::vector<std::string> target_modules;
  std::vector<std::string> modules_to_save;
  bool use_rslora = false;
  bool use_dora = false;
  // A tied head is trained and saved with its embedding, not apart from it.
  bool ensure_weight_tying = true;
  // Ranks and alphas of layers that have their own, by the end of the layer's name.
  std::vector<std::pair<std::string, int64_t>> rank_pattern;
  std::vector<std::pair<std::string, double>> alpha_pattern;
  // The file of a folder, whole; null for an adapter that starts here.
  nlohmann::ordered_json file;

  // REQUIRES: a resolved spec without adapter_uri.
  static AdapterConfig FromSpec(const liger::v1::LoraSpec& lora);
  // Reads <dir>/adapter_config.json. Throws TrainerError (CONFIG) naming the file
  // and the key of what is not LoRA as it is trained here.
  static AdapterConfig FromFolder(const std::string& dir);

  int64_t RankOf(const std::string& layer) const;
  // What B A x is multiplied with: alpha / r, or alpha / sqrt(r) with use_rslora.
  double ScaleOf(const std::string& layer) const;

  // adapter_config.json as PEFT reads it. `targets`: the layers' names, or ends of
  // them; for a folder's, its own stay.
  nlohmann::ordered_json ToJson(const std::string& base_model,
                                const std::vector<std::string>& targets) const;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_CHECKPOINT_ADAPTER_CONFIG_H_
