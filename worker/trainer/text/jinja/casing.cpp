// Capitals and small letters, as Python's str has them.

#include <utf8proc.h>

#include <utility>

#include "worker/trainer/text/jinja/error.h"
#include "worker/trainer/text/jinja/strings.h"
#include "worker/trainer/text/unicode.h"

namespace liger::trainer::jinja {
namespace {

// Without the few characters that Unicode calls cased although nothing maps them, such as U+00AA.
bool HasCase(utf8proc_int32_t c) {
  const utf8proc_category_t category = utf8proc_category(c);
  return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL ||
         category == UTF8PROC_CATEGORY_LT || utf8proc_tolower(c) != c || utf8proc_toupper(c) != c;
}

// Apostrophes, points, marks and the like: between a letter and a sigma they do not count.
bool IsCaseIgnorable(char32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return true;
    default:
      return std::u32string_view(
                 U"'.:\u00B7\u0387\u055F\u05F4\u2018\u2019\u2024\u2027\uFE13"
                 U"\uFE52\uFE55\uFF07\uFF0E\uFF1A")
                 .find(c) != std::u32string_view::npos;
  }
}

// Whether the sigma at byte `at` ends a word: a cased letter stands before it and none behind it
// (The Unicode Standard, table 3-17).
bool IsFinalSigma(std::string_view s, size_t at) {
  bool before = false;
  for (const char *p = s.data(), *end = p + at; p < end;) {
    const char32_t c = unicode::NextCodePoint(p);
    if (!IsCaseIgnorable(c)) before = HasCase(static_cast<utf8proc_int32_t>(c));
  }
  if (!before) return false;
  for (const char *p = s.data() + at + 2, *end = s.data() + s.size(); p < end;) {
    const char32_t c = unicode::NextCodePoint(p);
    if (!IsCaseIgnorable(c)) return !HasCase(static_cast<utf8proc_int32_t>(c));
  }
  return true;
}

// Python gives these two or three capitals (Unicode's SpecialCasing); the sharp s is none of them.
void RefuseSpecialCasing(char32_t c) {
  static constexpr std::pair<char32_t, char32_t> kSpecial[] = {
      {0x149, 0x149},   {0x1F0, 0x1F0},   {0x390, 0x390},   {0x3B0, 0x3B0},   {0x587, 0x587},
      {0x1E96, 0x1E9A}, {0x1F50, 0x1F50}, {0x1F52, 0x1F52}, {0x1F54, 0x1F54}, {0x1F56, 0x1F56},
      {0x1F80, 0x1FAF}, {0x1FB2, 0x1FB4}, {0x1FB6, 0x1FB7}, {0x1FBC, 0x1FBC}, {0x1FC2, 0x1FC4},
      {0x1FC6, 0x1FC7}, {0x1FCC, 0x1FCC}, {0x1FD2, 0x1FD3}, {0x1FD6, 0x1FD7}, {0x1FE2, 0x1FE4},
      {0x1FE6, 0x1FE7}, {0x1FF2, 0x1FF4}, {0x1FF6, 0x1FF7}, {0x1FFC, 0x1FFC}, {0xFB00, 0xFB06},
      {0xFB13, 0xFB17}};
  for (const auto &[first, last] : kSpecial) {
    if (c < first || c > last) continue;
    std::string text;
    unicode::AppendUtf8(c, &text);
    throw Unsupported("a capital '" + text + "'");
  }
}

}  // namespace

std::string MapCase(std::string_view s, bool upper) {
  std::string out;
  for (const char *p = s.data(), *end = p + s.size(); p < end;) {
    const char32_t c = unicode::NextCodePoint(p);
    if (upper && c == 0xDF) {
      out += "SS";
    } else if (!upper && c == 0x130) {
      out += "i\xCC\x87";
    } else if (!upper && c == 0x3A3) {
      const auto sigma = static_cast<size_t>(p - s.data()) - 2;
      out += IsFinalSigma(s, sigma) ? "\xCF\x82" : "\xCF\x83";
    } else {
      const auto i = static_cast<utf8proc_int32_t>(c);
      if (upper) RefuseSpecialCasing(c);
      unicode::AppendUtf8(static_cast<char32_t>(upper ? utf8proc_toupper(i) : utf8proc_tolower(i)),
                          &out);
    }
  }
  return out;
}

std::string Title(std::string_view s) {
  std::string out;
  bool in_word = false;
  for (const char *p = s.data(), *end = p + s.size(); p < end;) {
    const char32_t c = unicode::NextCodePoint(p);
    const auto i = static_cast<utf8proc_int32_t>(c);
    if (!in_word && c == 0xDF) {
      out += "Ss";
    } else {
      if (!in_word) RefuseSpecialCasing(c);
      unicode::AppendUtf8(
          static_cast<char32_t>(in_word ? utf8proc_tolower(i) : utf8proc_totitle(i)), &out);
    }
    in_word = HasCase(i);
  }
  return out;
}

}  // namespace liger::trainer::jinja
