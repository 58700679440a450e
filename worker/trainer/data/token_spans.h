#ifndef LIGER_WORKER_TRAINER_DATA_TOKEN_SPANS_H_
#define LIGER_WORKER_TRAINER_DATA_TOKEN_SPANS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "worker/trainer/text/tokenizer.h"

namespace liger::trainer {

// The bytes [begin, end) of a text that a token stands for.
struct TokenSpan {
  size_t begin = 0, end = 0;
};

// The spans of `ids`, which are `text` encoded without special tokens, of a tokenizer whose tokens
// are written as the text but for U+2581 and <0x..> (SentencePiece's), or in GPT-2's alphabet of
// bytes. The space that some put before a text, and behind each added token, is in no text; a token
// of it alone stands for the character behind it, as in `tokenizers`. nullopt: the tokens are
// written otherwise, or the text was normalized.
std::optional<std::vector<TokenSpan>> PieceSpans(const Tokenizer& tokenizer, std::string_view text,
                                                 const std::vector<int32_t>& ids);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_TOKEN_SPANS_H_
