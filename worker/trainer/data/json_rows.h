#ifndef LIGER_WORKER_TRAINER_DATA_JSON_ROWS_H_
#define LIGER_WORKER_TRAINER_DATA_JSON_ROWS_H_

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "worker/trainer/error.h"
#include "worker/trainer/mapped_file.h"

namespace liger::trainer {

// The rows of a .json file (an array of objects) or a .jsonl file (an object a
// line, empty lines skipped); which of the two is decided by the first
// character, as not every file has the right ending. The file is mapped and
// only split here, in one pass; each row is parsed when asked for, from any
// thread.
class JsonRows {
 public:
  // Reads at most max_rows rows; 0 reads all. Throws TrainerError (DATA): the
  // file cannot be read, is neither of the two, holds no rows, or is broken
  // between two rows.
  JsonRows(const std::string& path, int64_t max_rows);
  JsonRows(const JsonRows&) = delete;
  JsonRows& operator=(const JsonRows&) = delete;

  const std::string& path() const { return path_; }
  int64_t size() const { return static_cast<int64_t>(rows_.size()); }

  // Row `index` (0-based), an object whose keys keep their order. Throws
  // TrainerError (DATA) with the row, line, column and byte of a syntax error.
  nlohmann::ordered_json Parse(int64_t index) const;

  // An error about the row: "FILE: row 17 (line 230): WHAT".
  TrainerError Fail(int64_t index, const std::string& what, const std::string& action) const;

 private:
  struct Span {
    size_t begin;
    size_t end;
  };

  std::string_view text() const { return file_->bytes(); }
  void SplitLines(size_t at, int64_t max_rows);
  void SplitArray(size_t at, int64_t max_rows);
  TrainerError SyntaxError(int64_t index, size_t offset, const std::string& what) const;
  // Throws: the first row that does not parse, else the break at `offset`.
  [[noreturn]] void FailSplit(size_t offset, const std::string& what) const;

  std::string path_;
  std::unique_ptr<const MappedFile> file_;
  std::vector<Span> rows_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_JSON_ROWS_H_
