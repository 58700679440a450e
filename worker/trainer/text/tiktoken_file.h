#ifndef LIGER_WORKER_TRAINER_TEXT_TIKTOKEN_FILE_H_
#define LIGER_WORKER_TRAINER_TEXT_TIKTOKEN_FILE_H_

#include <string>

#include "worker/trainer/text/tokenizer_model_file.h"

namespace liger::trainer {

// Llama 3's original tokenizer.model: a line for each token, its bytes in
// base64, a space and its rank, which is its id. The regular expression and the
// special tokens are not in the file; they are Llama 3's (256 ids behind the
// ranks, named as since Llama 3.1: Llama 3's own names differ only in tokens
// that it reserved).
//
// Throws TrainerError naming the line for ranks that are not 0, 1, 2, ... .
ModelFileContents ReadTiktoken(const std::string& text, const std::string& path);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_TIKTOKEN_FILE_H_
