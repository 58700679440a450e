#ifndef LIGER_WORKER_TRAINER_TEXT_UNICODE_H_
#define LIGER_WORKER_TRAINER_TEXT_UNICODE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace liger::trainer::unicode {

// General categories as the regular expressions of `tokenizers` see them
// (unicode_categories.inc; tools/fixtures/unicode_tables.py says how they were obtained).
enum class Category : uint8_t {
  kCn, kCc, kCf, kCo, kCs, kLl, kLm, kLo, kLt, kLu, kMc, kMe, kMn, kNd, kNl,
  kNo, kPc, kPd, kPe, kPf, kPi, kPo, kPs, kSc, kSk, kSm, kSo, kZl, kZp, kZs,
};
inline constexpr int kCategories = 30;

// Calls run(first, last, category) for all code points in ascending order.
void ForEachCategoryRun(const std::function<void(char32_t, char32_t, Category)>& run);

// What a text's characters are told apart by most often.
enum class CharClass : uint8_t {
  kOther = 0,     // control, format, separator, unassigned
  kLetter,        // \p{L}
  kMark,          // \p{M}
  kDecimal,       // \p{Nd}
  kLetterNumber,  // \p{Nl}
  kOtherNumber,   // \p{No}
  kConnector,     // \p{Pc}
  kPunctuation,   // \p{P} without \p{Pc}
  kSymbol,        // \p{S}
};

// The class of any code point up to U+10FFFF.
CharClass ClassOf(char32_t c);

inline bool IsLetter(char32_t c) { return ClassOf(c) == CharClass::kLetter; }

// \p{N}
inline bool IsNumber(char32_t c) {
  const CharClass k = ClassOf(c);
  return k >= CharClass::kDecimal && k <= CharClass::kOtherNumber;
}

// The White_Space property: \s.
bool IsSpace(char32_t c);

// \w of UTS #18: alphabetic, mark, decimal number, connector, join control.
bool IsWord(char32_t c);

// Decodes the code point at *p, which must lie in valid UTF-8, and advances p.
inline char32_t NextCodePoint(const char*& p) {
  const auto* u = reinterpret_cast<const unsigned char*>(p);
  if (u[0] < 0x80) return p += 1, u[0];
  if (u[0] < 0xE0) return p += 2, char32_t(u[0] & 0x1F) << 6 | (u[1] & 0x3F);
  if (u[0] < 0xF0) {
    return p += 3, char32_t(u[0] & 0x0F) << 12 | char32_t(u[1] & 0x3F) << 6 | (u[2] & 0x3F);
  }
  return p += 4, char32_t(u[0] & 0x07) << 18 | char32_t(u[1] & 0x3F) << 12 |
                     char32_t(u[2] & 0x3F) << 6 | (u[3] & 0x3F);
}

// The code point that ends just before `p`; `p` moves to its first byte.
inline char32_t PreviousCodePoint(const char*& p) {
  do {
    --p;
  } while ((static_cast<unsigned char>(*p) & 0xC0) == 0x80);
  const char* q = p;
  return NextCodePoint(q);
}

// Bytes of the character that starts with `lead`, in valid UTF-8.
inline int Utf8Length(char lead) {
  const auto u = static_cast<unsigned char>(lead);
  return u < 0x80 ? 1 : u < 0xE0 ? 2 : u < 0xF0 ? 3 : 4;
}

void AppendUtf8(char32_t c, std::string* out);

bool IsValidUtf8(std::string_view text);

// `bytes` with each maximal ill-formed subsequence replaced by U+FFFD (Unicode
// 15, section 3.9, "U+FFFD Substitution of Maximal Subparts").
std::string Utf8Lossy(std::string_view bytes);

}  // namespace liger::trainer::unicode

#endif  // LIGER_WORKER_TRAINER_TEXT_UNICODE_H_
