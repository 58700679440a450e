#ifndef LIGER_WORKER_TRAINER_TEXT_SPECIAL_TOKENS_H_
#define LIGER_WORKER_TRAINER_TEXT_SPECIAL_TOKENS_H_

#include <nlohmann/json.hpp>
#include <string>

namespace liger::trainer {

// The tokens that the files beside a tokenizer's own name, as transformers 5.23 reads them:
// tokenizer_config.json; unless that has added_tokens_decoder, special_tokens_map.json, which then
// wins, and added_tokens.json.
struct ConfigTokens {
  // From bos_token, eos_token, unk_token, sep_token, pad_token, cls_token, mask_token, in that
  // order, and additional roles (image_token) to the tokens' texts.
  nlohmann::ordered_json roles = nlohmann::ordered_json::object();
  // Entries like those of tokenizer.json's added_tokens. `listed` replace the ones of the same
  // text there, or come behind them, by ascending id; `named` are only those that are not there.
  nlohmann::json listed = nlohmann::json::array(), named = nlohmann::json::array();
  // An id that tokenizer.json's list has takes nothing from `listed` (added_tokens.json).
  bool listed_yields = false;

  // Empty where no such file exists. Throws TrainerError (CONFIG) naming file and place.
  static ConfigTokens Read(const std::string& model_dir);

  // Appends to tokenizer.json's list of added tokens what it lacks.
  void AppendTo(nlohmann::json* added_tokens) const;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_SPECIAL_TOKENS_H_
