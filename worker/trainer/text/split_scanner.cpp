#include "worker/trainer/text/split_scanner.h"

#include <array>
#include <cstdint>
#include <string>

#include "worker/trainer/text/unicode.h"

namespace liger::trainer {
namespace {

// The four classes that the regular expressions tell apart.
enum Kind : uint8_t { kLetter, kNumber, kSpace, kRest };

Kind KindOf(char32_t c) {
  if (unicode::IsLetter(c)) return kLetter;
  if (unicode::IsNumber(c)) return kNumber;
  return unicode::IsSpace(c) ? kSpace : kRest;
}

const std::array<Kind, 128> kAsciiKinds = [] {
  std::array<Kind, 128> kinds{};
  for (char32_t c = 0; c < 128; ++c) kinds[c] = KindOf(c);
  return kinds;
}();

// Reads the character at p and advances p.
inline Kind NextKind(const char*& p) {
  const auto lead = static_cast<unsigned char>(*p);
  if (lead < 128) return ++p, kAsciiKinds[lead];
  return KindOf(unicode::NextCodePoint(p));
}

inline Kind KindAt(const char* p) { return NextKind(p); }

// The end of the run of `kind` that starts at p.
inline const char* SkipRun(const char* p, const char* end, Kind kind) {
  while (p < end) {
    const char* next = p;
    if (NextKind(next) != kind) break;
    p = next;
  }
  return p;
}

// \s+(?!\S)|\s+ : a run of spaces, less the last one when a word follows it.
const char* ScanSpaces(const char* p, const char* end) {
  const char* stop = SkipRun(p, end, kSpace);
  if (stop == end) return stop;
  const char* last = stop;
  unicode::PreviousCodePoint(last);
  return last > p ? last : stop;
}

inline bool IsNewline(char c) { return c == '\r' || c == '\n'; }

// The end of 's, 't, 're, 've, 'm, 'll or 'd at the apostrophe p, else p.
const char* ScanContraction(const char* p, const char* end, bool ignore_case) {
  const auto letter = [&](int i) -> char {
    if (p + i >= end) return 0;
    const char c = p[i];
    return ignore_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  };
  switch (letter(1)) {
    case 's':
    case 't':
    case 'm':
    case 'd':
      return p + 2;
    case 'r':
    case 'v':
      return letter(2) == 'e' ? p + 3 : p;
    case 'l':
      return letter(2) == 'l' ? p + 3 : p;
    case '\xC5':  // U+017F, the long s, folds to s
      return ignore_case && p + 2 < end && p[2] == '\xBF' ? p + 3 : p;
    default:
      return p;
  }
}

const char* ScanDigits(const char* p, const char* end, int max_digits) {
  for (int i = 0; i < max_digits && p < end; ++i) {
    const char* next = p;
    if (NextKind(next) != kNumber) break;
    p = next;
  }
  return p;
}

// \s*[\r\n]+ at a space: up to the last newline of the run of spaces, else p.
const char* ScanToNewline(const char* p, const char* end) {
  const char* stop = SkipRun(p, end, kSpace);
  while (stop > p && !IsNewline(stop[-1])) --stop;
  return stop;
}

}  // namespace

const char* ScanGpt2(const char* p, const char* end) {
  if (*p == '\'') {
    const char* stop = ScanContraction(p, end, false);
    if (stop > p) return stop;
  }
  const char* next = p;
  Kind kind = NextKind(next);
  if (*p == ' ' && next < end) kind = NextKind(next);
  if (kind == kSpace) return ScanSpaces(p, end);
  return SkipRun(next, end, kind);
}

const char* ScanCl100k(const char* p, const char* end, int max_digits) {
  if (*p == '\'') {
    const char* stop = ScanContraction(p, end, true);
    if (stop > p) return stop;
  }
  const char* next = p;
  const Kind kind = NextKind(next);
  if (kind == kLetter) return SkipRun(next, end, kLetter);
  if (kind == kNumber) return ScanDigits(p, end, max_digits);
  const Kind following = next < end ? KindAt(next) : kSpace;
  if (following == kLetter && !IsNewline(*p)) return SkipRun(next, end, kLetter);
  if (kind == kRest || (*p == ' ' && following == kRest)) {
    next = SkipRun(next, end, kRest);
    while (next < end && IsNewline(*next)) ++next;
    return next;
  }
  const char* newline = ScanToNewline(p, end);
  return newline > p ? newline : ScanSpaces(p, end);
}

std::optional<int> Cl100kDigits(std::string_view regex) {
  const auto spelled = [](const std::string& digits) {
    return R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)" + digits +
           R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  };
  if (regex == spelled(R"(\p{N})")) return 1;
  if (regex == spelled(R"(\p{N}{1,2})")) return 2;
  if (regex == spelled(R"(\p{N}{1,3})")) return 3;
  return std::nullopt;
}

}  // namespace liger::trainer
