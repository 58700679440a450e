#ifndef LIGER_WORKER_TRAINER_TEXT_TIKTOKEN_FILE_H_
#define LIGER_WORKER_TRAINER_TEXT_TIKTOKEN_FILE_H_

#include <cstdint>
#include <map>
#include <string>

#include "worker/trainer/text/tokenizer_model_file.h"

namespace liger::trainer {

// Llama 3's original tokenizer.model: a line for each token, its bytes in
// base64, a space and its rank, which is its id. The regular expression and the
// special tokens are not in the file; they are Llama 3's, 256 ids behind the ranks, named
// as Meta's tokenizer.py of Llama 3 or of 3.1 and later names them, but for `given` ones
// (by id). Of the two lists the one that `given` agrees with more; `llama30` where that
// tells nothing.
//
// Throws TrainerError naming the line for ranks that are not 0, 1, 2, ... .
ModelFileContents ReadTiktoken(const std::string& text, const std::string& path, bool llama30,
                               const std::map<int64_t, std::string>& given);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_TIKTOKEN_FILE_H_
