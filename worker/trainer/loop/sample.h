#ifndef LIGER_WORKER_TRAINER_LOOP_SAMPLE_H_
#define LIGER_WORKER_TRAINER_LOOP_SAMPLE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "liger/v1/job_spec.pb.h"
#include "worker/trainer/models/causal_lm.h"
#include "worker/trainer/models/generate.h"
#include "worker/trainer/text/chat_template.h"
#include "worker/trainer/text/tokenizer.h"

namespace liger::trainer {

// Tokens that end an answer: those of config.json, generation_config.json and
// the tokenizer's EOS.
std::vector<int64_t> StopTokens(const std::string& model_dir, const ModelConfig& config,
                                const Tokenizer& tokenizer);

// Throws ConfigError that names training.sample_prompts[i] when its tokens and those of
// the longest answer are more than the model's positions (0: it has no limit).
void RequireSamplesFit(const liger::v1::TrainingSpec& training, const Tokenizer& tokenizer,
                       const ChatTemplate* chat_template, int64_t positions);

// Answers `prompt` greedily: as a user's message through the chat template
// when there is one, else as plain text to continue. Special tokens are left
// out of the answer. `agree`: as GenerateGreedy's.
std::string AnswerGreedily(CausalLM& model, const Tokenizer& tokenizer,
                           const ChatTemplate* chat_template, const std::string& prompt,
                           int64_t max_new_tokens, const std::vector<int64_t>& stop_tokens,
                           const AgreeOnToken& agree = nullptr);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_SAMPLE_H_
