#include "worker/trainer/loop/input_warnings.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace liger::trainer {
namespace {

liger::v1::Warning InputWarning(const char* code, const char* field, const std::string& message) {
  liger::v1::Warning warning;
  warning.set_code(code);
  warning.set_field(field);
  warning.set_message(message);
  return warning;
}

}  // namespace

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
        absl::StrCat("max_length ", training.max_length(), " is more than the ", positions,
                     " positions that the model was trained for")));
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
