#ifndef LIGER_WORKER_TRAINER_TEXT_TOKENIZER_FILE_H_
#define LIGER_WORKER_TRAINER_TEXT_TOKENIZER_FILE_H_

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "worker/trainer/text/model.h"

namespace liger::trainer {

// tokenizer.json taken apart: the model, and the JSON of everything else.
struct TokenizerFile {
  std::string path;
  nlohmann::json config;  // without "model"
  std::unique_ptr<Model> model;
};

// Throws TrainerError when the file is missing, is not JSON (naming line and
// column), or has a model that is not implemented.
TokenizerFile ReadTokenizerFile(const std::string& path);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_TOKENIZER_FILE_H_
