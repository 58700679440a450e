#ifndef LIGER_WORKER_TRAINER_TEXT_TOKENIZER_MODEL_FILE_H_
#define LIGER_WORKER_TRAINER_TEXT_TOKENIZER_MODEL_FILE_H_

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "worker/trainer/text/tokenizer_file.h"

namespace liger::trainer {

// MODEL_DIR/tokenizer.model, the file of folders without a tokenizer.json: in
// SentencePiece's format or in tiktoken's (Llama 3), told apart by their first
// byte. Gives the pipeline that a tokenizer.json would ask for.
//
// What the model file does not say comes from tokenizer_config.json where it
// exists: added_tokens_decoder, add_bos_token (true), add_eos_token (false), and
// LlamaTokenizer's legacy (true) and add_prefix_space (true).
TokenizerFile ReadTokenizerModelFile(const std::string& model_dir);

// Adds to `special_tokens` (role to token) the roles that only the tokenizer.model of
// a folder without tokenizer.json names.
void AddModelFileRoles(const std::string& model_dir, nlohmann::ordered_json* special_tokens);

// The parts of tokenizer.json that both formats' readers write.
namespace pipeline {

nlohmann::json Component(const char* type, nlohmann::json fields = nlohmann::json::object());
nlohmann::json Sequence(const char* steps_key, std::vector<nlohmann::json> steps);
// Special tokens match the text as written, others the normalized text.
nlohmann::json AddedToken(int32_t id, const std::string& content, bool special);

}  // namespace pipeline

// The tokens that the two formats name for themselves; -1 for none.
struct FramingTokens {
  int32_t bos_id = -1;
  int32_t eos_id = -1;
};

struct ModelFileContents {
  TokenizerFile file;  // its post-processor and roles come from `framing`
  FramingTokens framing;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_TOKENIZER_MODEL_FILE_H_
