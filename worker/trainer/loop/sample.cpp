#include "worker/trainer/loop/sample.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/str_cat.h"
#include "worker/trainer/checkpoint/model_folder.h"
#include "worker/trainer/error.h"
#include "worker/trainer/models/evaluation_mode.h"
#include "worker/trainer/models/generate.h"

namespace liger::trainer {
namespace {

std::vector<int32_t> PromptIds(const Tokenizer& tokenizer, const ChatTemplate* chat_template,
                               const std::string& prompt) {
  if (chat_template == nullptr) return tokenizer.Encode(prompt, /*add_special_tokens=*/true);
  const nlohmann::ordered_json messages = {{{"role", "user"}, {"content", prompt}}};
  const std::string text = chat_template->Render(messages, /*add_generation_prompt=*/true);
  return tokenizer.Encode(text, /*add_special_tokens=*/false);
}

}  // namespace

std::vector<int64_t> StopTokens(const std::string& model_dir, const ModelConfig& config,
                                const Tokenizer& tokenizer) {
  std::set<int64_t> ids(config.eos_token_ids.begin(), config.eos_token_ids.end());
  if (tokenizer.eos_id()) ids.insert(*tokenizer.eos_id());
  if (const auto generation = ReadGenerationConfig(model_dir)) {
    const auto eos = EosTokenIds(*generation, model_dir + "/generation_config.json");
    ids.insert(eos.begin(), eos.end());
  }
  return {ids.begin(), ids.end()};
}

void RequireSamplesFit(const liger::v1::TrainingSpec& training, const Tokenizer& tokenizer,
                       const ChatTemplate* chat_template, int64_t positions) {
  if (positions <= 0) return;
  const int64_t answer = training.sample_max_new_tokens();
  for (int i = 0; i < training.sample_prompts_size(); ++i) {
    const auto ids = PromptIds(tokenizer, chat_template, training.sample_prompts(i));
    const auto length = static_cast<int64_t>(ids.size());
    if (length + answer <= positions) continue;
    const std::string field = absl::StrCat("training.sample_prompts[", i, "]");
    throw ConfigError(
        absl::StrCat(field, ": ", length, " tokens and an answer of ", answer,
                     " (training.sample_max_new_tokens) are more than the model's ", positions,
                     " positions (max_position_embeddings in its config.json)"),
        "shorten the prompt, or lower training.sample_max_new_tokens")
        .Field(field);
  }
}

std::string AnswerGreedily(CausalLM& model, const Tokenizer& tokenizer,
                           const ChatTemplate* chat_template, const std::string& prompt,
                           int64_t max_new_tokens, const std::vector<int64_t>& stop_tokens,
                           const AgreeOnToken& agree) {
  const std::vector<int32_t> prompt_ids = PromptIds(tokenizer, chat_template, prompt);
  if (prompt_ids.empty()) return "";
  const EvaluationMode evaluation(model);
  const std::vector<int32_t> answer =
      GenerateGreedy(model, prompt_ids, max_new_tokens, stop_tokens, agree);
  return tokenizer.Decode(answer, /*skip_special_tokens=*/true);
}

}  // namespace liger::trainer
