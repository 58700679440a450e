#ifndef LIGER_WORKER_TRAINER_DATA_TEXT_PREFIX_H_
#define LIGER_WORKER_TRAINER_DATA_TEXT_PREFIX_H_

#include <algorithm>
#include <string_view>

namespace liger::trainer {

// Moves a byte position in UTF-8 text back to its character's first byte.
inline size_t CharacterStart(std::string_view text, size_t at) {
  while (at > 0 && at < text.size() && (text[at] & 0xC0) == 0x80) --at;
  return at;
}

// Bytes of the whole characters that two UTF-8 texts begin with alike.
inline size_t CommonPrefix(std::string_view a, std::string_view b) {
  const auto ends = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  const size_t length = static_cast<size_t>(ends.first - a.begin());
  // Where one text ends, the other decides whether a character is cut.
  return length < a.size() ? CharacterStart(a, length) : CharacterStart(b, length);
}

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_TEXT_PREFIX_H_
