#ifndef LIGER_WORKER_TRAINER_TEXT_BYTE_ALPHABET_H_
#define LIGER_WORKER_TRAINER_TEXT_BYTE_ALPHABET_H_

#include <string>
#include <string_view>

namespace liger::trainer {

// GPT-2's bijection between bytes and printable characters: the printable
// Latin-1 bytes stand for themselves, the other 68 are U+0100 onwards in order
// (https://github.com/openai/gpt-2, encoder.py, bytes_to_unicode).

// Writes the alphabet's UTF-8 of `bytes` to `out`, which has room for twice as
// many bytes; returns the end of what it wrote.
char* BytesToAlphabet(std::string_view bytes, char* out);

// Appends the bytes that `token` stands for. A token with any character that
// is not in the alphabet (an added token with a space, say) stands for itself.
void AppendAlphabetBytes(std::string_view token, std::string* out);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_BYTE_ALPHABET_H_
