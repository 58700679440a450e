#ifndef LIGER_WORKER_TRAINER_TEXT_JINJA_STRINGS_H_
#define LIGER_WORKER_TRAINER_TEXT_JINJA_STRINGS_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "worker/trainer/text/jinja/value.h"

namespace liger::trainer::jinja {

// Python's view of strings: characters are code points. Strings are valid UTF-8.

std::vector<std::string_view> Characters(std::string_view s);
size_t Length(std::string_view s);

// str.isspace() of one character.
bool IsPythonSpace(char32_t c);
// str.strip, lstrip, rstrip: of whitespace, or of any of `chars`.
std::string Strip(std::string_view s, const Value* chars, bool left, bool right);

// str.splitlines.
std::vector<std::string_view> Lines(std::string_view s, bool keep_ends);
// str.split() without a separator, or rsplit(): runs of spaces divide; at most `max` times, if
// that is not negative.
List SplitOnSpaces(const std::string& s, int64_t max, bool from_right);
// str.center; `fill` is one character.
std::string Center(const std::string& s, int64_t width, const std::string& fill);

// str.upper, else str.lower, with the expansions that are common (the sharp s, the dotted capital
// I) and the sigma that ends a word.
std::string MapCase(std::string_view s, bool upper);
// str.title: a word starts after every character without case. (Jinja's filter
// of that name has other words: filters.cpp.)
std::string Title(std::string_view s);

// str(value), as {{ value }} prints it.
std::string ToString(const Value& value);
// repr(value), as str() of a list shows its items.
std::string Repr(const Value& value);

// json.dumps(value, ensure_ascii, indent, separators, sort_keys). Without an indent on one line.
struct JsonStyle {
  std::optional<std::string> indent;
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};
std::string ToJson(const Value& value, const JsonStyle& style);

}  // namespace liger::trainer::jinja

#endif  // LIGER_WORKER_TRAINER_TEXT_JINJA_STRINGS_H_
