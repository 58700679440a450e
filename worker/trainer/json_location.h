#ifndef LIGER_WORKER_TRAINER_JSON_LOCATION_H_
#define LIGER_WORKER_TRAINER_JSON_LOCATION_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace liger::trainer {

// Where a byte of a text lies, for messages; all 1-based, column in bytes.
struct TextLocation {
  int64_t line = 1;
  int64_t column = 1;
  int64_t byte = 1;

  std::string ToString() const {
    return "line " + std::to_string(line) + ", column " + std::to_string(column) + ", byte " +
           std::to_string(byte);
  }
};

// Lines end in \n, \r\n or \r. REQUIRES: offset <= text.size() (0-based).
inline TextLocation Locate(std::string_view text, size_t offset) {
  TextLocation location;
  size_t line_begin = 0;
  for (size_t i = 0; i < offset; ++i) {
    const bool ends_line =
        text[i] == '\n' || (text[i] == '\r' && (i + 1 == text.size() || text[i + 1] != '\n'));
    if (!ends_line) continue;
    ++location.line;
    line_begin = i + 1;
  }
  location.column = static_cast<int64_t>(offset - line_begin) + 1;
  location.byte = static_cast<int64_t>(offset) + 1;
  return location;
}

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_JSON_LOCATION_H_
