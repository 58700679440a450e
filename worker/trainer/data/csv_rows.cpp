#include "worker/trainer/data/csv_rows.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "common/plural.h"
#include "worker/trainer/text/unicode.h"

namespace liger::trainer {
namespace {

constexpr char kBlanks[] = " \t";

// The end of the record that begins at `at`: the first character of its line break
// (\n, \r\n or \r), or the text's end; npos when a quote is left open.
size_t RecordEnd(std::string_view text, size_t at) {
  bool quoted = false;
  bool field_start = true;
  size_t closed = std::string_view::npos;  // the last closing quote
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (quoted) {
      if (c == '"') {
        quoted = false;
        closed = at;
      }
    } else if (c == '"' &&
               (field_start || (closed != std::string_view::npos && closed + 1 == at))) {
      // A field's first character, or the second of a doubled quote inside it.
      quoted = true;
    } else if (c == '\n' || c == '\r') {
      return at;
    }
    field_start = !quoted && c == ',';
  }
  return quoted ? std::string_view::npos : text.size();
}

struct CsvRecord {
  std::vector<std::string> fields;
  bool goes_on_after_quote = false;  // the last of the fields, which ends the reading
  int64_t blank_before_quote = 0;    // the first such field (1-based), whose quotes are its text
};

// A field in quotes that begins at *at, which becomes its end.
std::string QuotedField(std::string_view record, size_t* at, bool* closed) {
  std::string field;
  while (true) {
    const size_t quote = record.find('"', ++*at);
    *closed = quote != std::string_view::npos;
    if (!*closed) return field;
    field += record.substr(*at, quote - *at);
    *at = quote + 1;
    if (*at >= record.size() || record[*at] != '"') return field;
    field += '"';
  }
}

CsvRecord SplitRecord(std::string_view text) {
  CsvRecord record;
  size_t at = 0;
  while (true) {
    std::string& field = record.fields.emplace_back();
    if (at < text.size() && text[at] == '"') {
      bool closed = false;
      field = QuotedField(text, &at, &closed);
      record.goes_on_after_quote = !closed || (at < text.size() && text[at] != ',');
      if (record.goes_on_after_quote) return record;
    } else {
      const size_t comma = std::min(text.find(',', at), text.size());
      field = text.substr(at, comma - at);
      at = comma;
      const size_t begin = field.find_first_not_of(kBlanks);
      const bool quoted = begin != std::string::npos && begin > 0 && field[begin] == '"';
      if (quoted && record.blank_before_quote == 0) {
        record.blank_before_quote = std::ssize(record.fields);
      }
    }
    if (at >= text.size()) return record;
    ++at;  // the comma
  }
}

}  // namespace

CsvRows::CsvRows(const std::string& path, RowLimit limit, const std::string& scratch_dir)
    : TextRows(path, scratch_dir) {
  const std::string_view text = text_.view();
  size_t at = 0;
  while (at < text.size()) {
    if (limit.Reached(size(), at)) {
      if (text.find_first_not_of("\r\n", at) != std::string_view::npos) EndAt(at);
      break;
    }
    const size_t end = RecordEnd(text, at);
    if (end == std::string_view::npos) {
      if (columns_.empty()) throw NotCsv("a quote in the header line is left open");
      begins_.push_back(at);
      throw Fail(size() - 1, "a quote that opens here or later is never closed",
                 "Close it; quotes inside of a quoted field are written twice.");
    }
    if (end > at) {
      if (columns_.empty()) {
        ReadHeader(end);
      } else {
        begins_.push_back(at);
      }
    }
    at = end + 1;  // a \n that follows an \r is an empty record
  }
  if (columns_.empty()) throw NotCsv("the file is empty");
  if (begins_.empty()) throw NotCsv("the file has a header line and no rows");
}

void CsvRows::ReadHeader(size_t end) {
  // Empty lines may stand before it, and they hold nothing.
  std::string_view header = text_.view().substr(0, end);
  header.remove_prefix(std::min(header.find_first_not_of("\r\n"), header.size()));
  CsvRecord record = SplitRecord(header);
  if (record.goes_on_after_quote) throw NotCsv("text follows a quoted name in the header");
  if (record.blank_before_quote > 0) throw NotCsv("a blank stands before a quote in the header");
  columns_ = std::move(record.fields);
  const size_t separator = columns_[0].find_first_of(";\t");
  if (columns_.size() == 1 && separator != std::string::npos) {
    throw NotCsv(std::string("the header has no comma, and is separated by ") +
                 (columns_[0][separator] == ';' ? "semicolons" : "tabs"));
  }
  TrimNames();
  std::vector<std::string> names = columns_;
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) throw NotCsv("the header names column \"" + *twice + "\" twice");
  for (const std::string& name : columns_) {
    if (!unicode::IsValidUtf8(name)) {
      throw DataError(path() + ": the header line is not UTF-8", kMakeUtf8).File(path());
    }
  }
}

void CsvRows::TrimNames() {
  for (std::string& name : columns_) {
    const size_t begin = std::min(name.find_first_not_of(kBlanks), name.size());
    spaced_ = spaced_ || begin > 0;
    name = name.substr(begin, name.find_last_not_of(kBlanks) + 1 - begin);
  }
}

nlohmann::ordered_json CsvRows::Parse(int64_t index) const {
  text_.RequireWhole();
  const size_t begin = begins_.at(index);
  const size_t end = RecordEnd(text_.view(), begin);
  CsvRecord record = SplitRecord(text_.view().substr(begin, end - begin));
  std::vector<std::string>& fields = record.fields;
  if (record.goes_on_after_quote) {
    throw Fail(index, "text follows the closing quote of field " + std::to_string(fields.size()),
               "Write quotes inside of a quoted field twice.");
  }
  if (spaced_ && record.blank_before_quote > 0) {
    throw Fail(index,
               "a blank stands before the quote of field " +
                   std::to_string(record.blank_before_quote) + ", as before names in the header",
               "Remove the blanks after the commas: they are a part of the field.");
  }
  if (fields.size() != columns_.size()) {
    throw Fail(index,
               "has " + Plural(std::ssize(fields), "field") + ", and the header names " +
                   Plural(std::ssize(columns_), "column"),
               "Put fields that hold commas or line breaks in double quotes.");
  }
  nlohmann::ordered_json row = nlohmann::ordered_json::object();
  for (size_t i = 0; i < fields.size(); ++i) {
    if (!unicode::IsValidUtf8(fields[i])) {
      throw Fail(index, "column " + columns_[i] + ": is not UTF-8", kMakeUtf8);
    }
    auto& value = row[columns_[i]];  // null
    if (!fields[i].empty()) value = std::move(fields[i]);
  }
  return row;
}

TrainerError CsvRows::NotCsv(const std::string& what) const {
  return DataError(path() + ": " + what,
                   "Give a .csv file whose first line names the columns, such as "
                   "prompt,completion.")
      .File(path());
}

}  // namespace liger::trainer
