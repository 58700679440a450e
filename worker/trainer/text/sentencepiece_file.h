#ifndef LIGER_WORKER_TRAINER_TEXT_SENTENCEPIECE_FILE_H_
#define LIGER_WORKER_TRAINER_TEXT_SENTENCEPIECE_FILE_H_

#include <string>

#include "worker/trainer/text/tokenizer_model_file.h"

namespace liger::trainer {

// SentencePiece's model as this library's own BPE: the same ids as
// libsentencepiece gives for a text without special tokens (it merges by the
// joined piece's score, leftmost first, and so does BpeModel with equal ranks),
// and the added tokens, which libsentencepiece does not know.
//
// A model with a dummy prefix has a leading space put before each text between special
// tokens (kEach), as in the tokenizer.json that the hub has for Llama 2 and Mistral; before
// the first only and not where that begins with a space (kFirst), as transformers 5 has it
// with `legacy: false`; or nowhere (kNever: `add_prefix_space: false`).
//
// Throws TrainerError naming the field for what is not implemented: models
// other than BPE, normalization rules, unused pieces.
enum class SpacePrefix { kEach, kFirst, kNever };
ModelFileContents ReadSentencePiece(const std::string& bytes, const std::string& path,
                                    SpacePrefix prefix);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_SENTENCEPIECE_FILE_H_
