#include "worker/trainer/loop/input_warnings.h"

#include <filesystem>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "worker/trainer/checkpoint/adapter_config.h"

namespace liger::trainer {
namespace {

liger::v1::Warning InputWarning(const char* code, const char* field, const std::string& message) {
  liger::v1::Warning warning;
  warning.set_code(code);
  warning.set_field(field);
  warning.set_message(message);
  return warning;
}

// A model's name as far as a path or the Hub's name tells it, in small letters and digits alone:
// the last part, or of a path in the Hub's cache (models--ORG--NAME/snapshots/REVISION) NAME.
std::string BareName(const std::string& model) {
  std::string name;
  for (const std::filesystem::path& part : std::filesystem::path(model)) {
    if (part == "snapshots" && name.starts_with("models--")) {
      name.erase(0, name.rfind("--"));
      break;
    }
    if (!part.empty()) name = part.string();
  }
  std::string bare;
  for (const char c : name) {
    if (absl::ascii_isalnum(c)) bare += absl::ascii_tolower(c);
  }
  return bare;
}

}  // namespace

std::vector<liger::v1::Warning> AdapterWarnings(const liger::v1::ModelSpec& model,
                                                const std::string& model_dir,
                                                const std::string& adapter_dir) {
  constexpr char kBase[] = "base_model_name_or_path";
  if (adapter_dir.empty()) return {};
  const auto config = AdapterConfig::FromFolder(adapter_dir).file;
  const auto base = config.find(kBase);
  if (base == config.end() || !base->is_string()) return {};
  const std::string name = BareName(*base);
  if (name.empty()) return {};
  for (const std::string& known : {model.name(), model.uri(), model_dir}) {
    if (BareName(known) == name) return {};
  }
  return {InputWarning(
      "AdapterBase", "lora.adapter_uri",
      absl::StrCat("the adapter's base model is '", base->get<std::string>(),
                   "' (adapter_config.json), and the job's model is '",
                   model.name().empty() ? model.uri() : model.name(),
                   "': on another model than its own an adapter changes the wrong weights"))};
}

std::vector<liger::v1::Warning> ModelWarnings(const ModelConfig& config,
                                   const liger::v1::TrainingSpec& training) {
  std::vector<liger::v1::Warning> warnings;
  if (config.has_own_head) {
    warnings.push_back(InputWarning(
        "UntiedHead", "model",
        "config.json ties lm_head.weight to the embedding, but the weights hold both, and they "
        "differ: the head is trained and saved as its own, as transformers does; set "
        "tie_word_embeddings: false in config.json"));
  }
  const int64_t positions = config.max_position_embeddings;
  if (positions > 0 && training.max_length() > positions) {
    warnings.push_back(InputWarning(
        "MaxLength", "training.max_length",
        absl::StrCat(
            "training.max_length ", training.max_length(), " is more than the ", positions,
            " positions that the model was trained for; lower it, unless rows are shorter")));
  }
  return warnings;
}

std::vector<liger::v1::Warning> DataWarnings(const Dataset& dataset) {
  std::vector<liger::v1::Warning> warnings;
  for (const std::string& sentence : dataset.warnings) {
    warnings.push_back(InputWarning("Data", "dataset", sentence));
  }
  return warnings;
}

}  // namespace liger::trainer
