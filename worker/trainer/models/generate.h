#ifndef LIGER_WORKER_TRAINER_MODELS_GENERATE_H_
#define LIGER_WORKER_TRAINER_MODELS_GENERATE_H_

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "worker/trainer/models/causal_lm.h"

namespace liger::trainer {

// Gives the token that is taken where this one was found.
using AgreeOnToken = std::function<int64_t(int64_t found)>;

// Continues `prompt_ids` (at least one token) with the most probable token at
// each step, at most `max_new_tokens`, until one of `stop_ids` is produced.
// Returns the new tokens, the stop token included. Switches gradients off and
// leaves the model's mode as it was. `agree`, if there is one, is asked about each token.
std::vector<int32_t> GenerateGreedy(CausalLM& model, std::span<const int32_t> prompt_ids,
                                    int64_t max_new_tokens, std::span<const int64_t> stop_ids,
                                    const AgreeOnToken& agree = nullptr);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_MODELS_GENERATE_H_
