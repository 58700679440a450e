#ifndef LIGER_WORKER_TRAINER_TEXT_TOKENIZER_FILE_H_
#define LIGER_WORKER_TRAINER_TEXT_TOKENIZER_FILE_H_

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "worker/trainer/text/model.h"

namespace liger::trainer {

// tokenizer.json taken apart: the model, and the JSON of everything else. Also
// what the readers of other formats make (tokenizer_model_file.h).
struct TokenizerFile {
  std::string path;
  nlohmann::json config;  // without "model"
  // The added tokens are written as the normalizer leaves text (SentencePiece's
  // pieces), not as a user writes them.
  bool added_tokens_are_normalized = false;
  // "bos_token" and the like where the format itself names them, else empty.
  nlohmann::json roles = nlohmann::json::object();
  std::unique_ptr<Model> model;
};

// Throws TrainerError when the file is missing, is not JSON (naming line and
// column), or has a model that is not implemented.
TokenizerFile ReadTokenizerFile(const std::string& path);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_TOKENIZER_FILE_H_
