#ifndef LIGER_WORKER_TRAINER_JSON_LOCATION_H_
#define LIGER_WORKER_TRAINER_JSON_LOCATION_H_

#include <algorithm>
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

// REQUIRES: offset <= text.size() (0-based).
inline TextLocation Locate(std::string_view text, size_t offset) {
  const std::string_view before = text.substr(0, offset);
  const size_t newline = before.rfind('\n');
  return {.line = 1 + std::count(before.begin(), before.end(), '\n'),
          .column = static_cast<int64_t>(newline == std::string_view::npos ? offset + 1
                                                                           : offset - newline),
          .byte = static_cast<int64_t>(offset) + 1};
}

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_JSON_LOCATION_H_
