#include "worker/trainer/text/byte_alphabet.h"

#include <array>

#include "worker/trainer/text/unicode.h"

namespace liger::trainer {
namespace {

struct Alphabet {
  // UTF-8 of each byte's character, and how long it is (1 or 2).
  std::array<std::array<char, 2>, 256> utf8{};
  std::array<uint8_t, 256> length{};
  // The byte of each character up to U+0143, -1 for none.
  std::array<int16_t, 0x144> byte_of{};

  Alphabet() {
    byte_of.fill(-1);
    char32_t next = 0x100;
    for (int b = 0; b < 256; ++b) {
      const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD);
      const char32_t c = printable ? static_cast<char32_t>(b) : next++;
      std::string s;
      unicode::AppendUtf8(c, &s);
      utf8[b] = {s[0], s.size() > 1 ? s[1] : '\0'};
      length[b] = static_cast<uint8_t>(s.size());
      byte_of[c] = static_cast<int16_t>(b);
    }
  }
};

const Alphabet kAlphabet;

}  // namespace

char* BytesToAlphabet(std::string_view bytes, char* out) {
  for (const char b : bytes) {
    const auto u = static_cast<unsigned char>(b);
    out[0] = kAlphabet.utf8[u][0];
    if (kAlphabet.length[u] == 2) out[1] = kAlphabet.utf8[u][1];
    out += kAlphabet.length[u];
  }
  return out;
}

void AppendAlphabetBytes(std::string_view token, std::string* out) {
  const size_t mark = out->size();
  for (const char *p = token.data(), *end = p + token.size(); p < end;) {
    const char32_t c = unicode::NextCodePoint(p);
    if (c >= kAlphabet.byte_of.size() || kAlphabet.byte_of[c] < 0) {
      out->resize(mark);
      out->append(token);
      return;
    }
    out->push_back(static_cast<char>(kAlphabet.byte_of[c]));
  }
}

}  // namespace liger::trainer
