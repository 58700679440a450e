#include "worker/trainer/data/json_rows.h"

#include <algorithm>

#include "worker/trainer/exact_json.h"
#include "worker/trainer/json_location.h"
#include "worker/trainer/text/unicode.h"

namespace liger::trainer {
namespace {

constexpr std::string_view kSpace = " \t\r\n";
constexpr char kFixRow[] = "Correct the row, or remove it.";
constexpr char kNoSuchNumber[] =
    "Write null or a number: Python's json.dumps writes NaN and Infinity, which JSON has not.";
constexpr char kOneLine[] =
    "In JSON lines a row is one line: write each so, or make the file an array of rows.";

size_t SkipSpace(std::string_view text, size_t at) {
  return std::min(text.find_first_not_of(kSpace, at), text.size());
}

// A byte for messages, which are UTF-8.
std::string Quoted(char c) {
  if (c > ' ' && c < '\x7F') return std::string("'") + c + "'";
  constexpr char kDigits[] = "0123456789ABCDEF";
  const auto byte = static_cast<unsigned char>(c);
  return std::string("byte 0x") + kDigits[byte >> 4] + kDigits[byte & 15];
}

bool NamedTsv(std::string_view path) {
  for (const std::string_view packed : {".gz", ".zst"}) {
    if (path.ends_with(packed)) path.remove_suffix(packed.size());
  }
  return path.ends_with(".tsv");
}

// NaN, Infinity or -Infinity where an error is in a text; "" of other errors.
std::string NoNumberAt(std::string_view text, size_t at) {
  const char before = at == 0 || at > text.size() ? ' ' : text[at - 1];
  if (before == '\\') return "";  // inside a string
  for (const char* word : {"NaN", "Infinity"}) {
    if (text.substr(std::min(at, text.size())).starts_with(word)) {
      return (before == '-' ? "-" : "") + std::string(word);
    }
  }
  return "";
}

// The end of the JSON value that begins at `at`, judged by brackets and quotes
// alone; npos when the text ends first. Whether the value is valid is the
// parser's business.
size_t ValueEnd(std::string_view text, size_t at) {
  int64_t depth = 0;
  for (size_t i = at; i < text.size(); ++i) {
    switch (text[i]) {
      case '"':
        for (++i; i < text.size() && text[i] != '"'; ++i) {
          if (text[i] == '\\') ++i;
        }
        break;
      case '{':
      case '[':
        ++depth;
        break;
      case '}':
      case ']':
        if (depth == 0) return i;  // the array's own bracket after a scalar
        if (--depth == 0) return i + 1;
        break;
      case ',':
        if (depth == 0) return i;
        break;
      default:
        break;
    }
  }
  return std::string_view::npos;
}

}  // namespace

JsonRows::JsonRows(const std::string& path, RowLimit limit, const std::string& scratch_dir)
    : TextRows(path, scratch_dir) {
  const size_t at = SkipSpace(text(), 0);
  if (at == text().size()) {
    throw DataError(path + ": the file is empty",
                    "Give a .json file with an array of rows, or a .jsonl file with a row a line.")
        .File(path);
  }
  is_array_ = text()[at] == '[';
  if (is_array_) {
    SplitArray(at + 1, limit);
  } else if (text()[at] == '{') {
    SplitLines(at, limit);
  } else {
    throw DataError(
        path + ": neither a JSON array nor JSON lines: it begins with " + Quoted(text()[at]),
        NamedTsv(path)
            ? "Tab-separated text is not read: make it .csv (with commas) or .jsonl."
            : "Give a .json file with an array of rows, a .jsonl file with a row a line, "
              "or a .csv file whose first line names the columns.")
        .File(path);
  }
  if (begins_.empty()) {
    throw DataError(path + ": the array holds no rows", "Give a file with at least one row.")
        .File(path);
  }
}

void JsonRows::SplitLines(size_t at, RowLimit limit) {
  while (at < text().size()) {
    if (limit.Reached(size(), at)) return EndAt(at);
    begins_.push_back(at);
    at = SkipSpace(text(), LineEnd(at));
  }
}

void JsonRows::SplitArray(size_t at, RowLimit limit) {
  at = SkipSpace(text(), at);
  if (at < text().size() && text()[at] == ']') return;
  while (true) {
    const size_t end = ValueEnd(text(), at);
    begins_.push_back(at);
    if (end == std::string_view::npos) FailSplit(text().size(), "the file ends inside the row");
    at = SkipSpace(text(), end);
    if (at == text().size()) FailSplit(at, "the file ends before the array's ']'");
    if (text()[at] == ']') break;
    if (text()[at] != ',') FailSplit(at, "no ',' or ']' follows the row");
    const size_t comma = at;
    at = SkipSpace(text(), at + 1);
    if (at < text().size() && text()[at] == ']') {
      FailSplit(comma, "no row stands between this ',' and the array's ']'");
    }
    if (limit.Reached(size(), at)) return EndAt(at);
  }
  const size_t rest = SkipSpace(text(), at + 1);
  if (rest != text().size()) FailSplit(rest, "text follows the array's ']'");
}

size_t JsonRows::End(int64_t index) const {
  const size_t begin = Begin(index);
  return is_array_ ? std::min(ValueEnd(text(), begin), text().size()) : LineEnd(begin);
}

// No string of JSON holds a raw \r or \n.
size_t JsonRows::LineEnd(size_t at) const {
  return std::min(text().find_first_of("\r\n", at), text().size());
}

nlohmann::ordered_json JsonRows::Parse(int64_t index) const {
  const size_t begin = Begin(index);
  nlohmann::ordered_json row;
  text_.RequireWhole();
  const std::string_view line = text().substr(begin, End(index) - begin);
  try {
    row = ParseExactJson(line);
  } catch (const JsonTextError& e) {
    if (!unicode::IsValidUtf8(line)) {
      throw SyntaxError(index, begin + e.offset(), "is not UTF-8", kMakeUtf8);
    }
    if (const std::string word = NoNumberAt(line, e.offset()); !word.empty()) {
      throw SyntaxError(index, begin + e.offset(), "not valid JSON: " + word + " is no value of it",
                        kNoSuchNumber);
    }
    // Its brackets are not closed on the line, but further on.
    const bool goes_on = !is_array_ && ValueEnd(line, 0) == std::string_view::npos &&
                         ValueEnd(text(), begin) != std::string_view::npos;
    throw SyntaxError(index, begin + e.offset(), e.what(), goes_on ? kOneLine : kFixRow);
  }
  if (!row.is_object()) {
    throw Fail(index, std::string("a row must be an object with columns, not ") + row.type_name(),
               kFixRow);
  }
  return row;
}

TrainerError JsonRows::SyntaxError(int64_t index, size_t offset, const std::string& what,
                                   const char* action) const {
  return DataError(path() + ": row " + std::to_string(index + 1) + " (" +
                       Locate(text(), std::min(offset, text().size())).ToString() + "): " + what,
                   action)
      .File(path())
      .Row(index + 1);
}

void JsonRows::FailSplit(size_t offset, const std::string& what) const {
  // A quote or bracket missing in an earlier row misleads the split, and only
  // the parser sees it.
  for (int64_t index = 0; index < size(); ++index) Parse(index);
  throw SyntaxError(size() - 1, offset, "not valid JSON: " + what, kFixRow);
}

}  // namespace liger::trainer
