#ifndef LIGER_WORKER_TRAINER_TEXT_SPLIT_SCANNER_H_
#define LIGER_WORKER_TRAINER_TEXT_SPLIT_SCANNER_H_

#include <optional>
#include <string_view>

namespace liger::trainer {

// Hand-written matchers of two regular expressions that nearly every
// byte-level BPE tokenizer splits with. Each takes the text from `p` (p < end,
// valid UTF-8, at a character boundary) and returns the end of the match that
// starts at `p`. Both match everywhere, so that their matches cover a text.

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
inline constexpr std::string_view kGpt2Regex =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
const char* ScanGpt2(const char* p, const char* end);

// The family of cl100k (Llama 3: up to three digits; Qwen2: one):
// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
//  ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
const char* ScanCl100k(const char* p, const char* end, int max_digits);

// max_digits when `regex` is spelled as a member of the cl100k family.
std::optional<int> Cl100kDigits(std::string_view regex);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_SPLIT_SCANNER_H_
