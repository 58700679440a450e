#ifndef LIGER_WORKER_TRAINER_GGUF_FOLDER_FILES_H_
#define LIGER_WORKER_TRAINER_GGUF_FOLDER_FILES_H_

#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "worker/trainer/gguf/gguf_file.h"

namespace liger::trainer {

// What a Hugging Face folder holds beside its weights, out of a GGUF file's
// metadata. All throw TrainerError (CONFIG) that names the key and its byte, for
// what is missing, malformed or not implemented.

// config.json, without the dtype of the weights.
nlohmann::ordered_json GgufConfig(const GgufFile& file);

// generation_config.json.
nlohmann::ordered_json GgufGenerationConfig(const GgufFile& file);

// tokenizer_config.json, tokenizer.json (byte-level BPE, "gpt2") or
// tokenizer.model (SentencePiece, "llama"), and chat_template.jinja where the
// file has one: content by name.
std::map<std::string, std::string> GgufTokenizerFiles(const GgufFile& file);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_GGUF_FOLDER_FILES_H_
