#ifndef LIGER_WORKER_TRAINER_TEXT_SPECIAL_TOKENS_H_
#define LIGER_WORKER_TRAINER_TEXT_SPECIAL_TOKENS_H_

#include <nlohmann/json.hpp>
#include <string>

namespace liger::trainer {

// The special tokens that a model folder names: an object from bos_token,
// eos_token, unk_token, sep_token, pad_token, cls_token, mask_token (and
// additional ones) to strings, in the order transformers has them. From
// tokenizer_config.json, completed by special_tokens_map.json; empty when
// neither exists.
nlohmann::ordered_json ReadSpecialTokens(const std::string& model_dir);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_SPECIAL_TOKENS_H_
