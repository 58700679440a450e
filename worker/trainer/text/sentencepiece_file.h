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
// A leading space is put before each text between special tokens, as in the
// tokenizer.json that the hub has for Llama 2 and Mistral. (transformers 5 puts
// it before the first only, and not before a text that begins with a space,
// where it differs from libsentencepiece.)
//
// Throws TrainerError naming the field for what is not implemented: models
// other than BPE, normalization rules, unused pieces.
ModelFileContents ReadSentencePiece(const std::string& bytes, const std::string& path);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_SENTENCEPIECE_FILE_H_
