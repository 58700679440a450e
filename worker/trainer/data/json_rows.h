#ifndef LIGER_WORKER_TRAINER_DATA_JSON_ROWS_H_
#define LIGER_WORKER_TRAINER_DATA_JSON_ROWS_H_

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "worker/trainer/data/row_file.h"

namespace liger::trainer {

// The rows of a .json file (an array of objects) or a .jsonl file (an object a
// line, empty lines skipped); which of the two is decided by the first
// character, as not every file has the right ending.
class JsonRows : public TextRows {
 public:
  // Throws TrainerError (DATA): the file cannot be read, is neither of the two,
  // holds no rows, or is broken between two rows.
  JsonRows(const std::string& path, RowLimit limit, const std::string& scratch_dir = "");

  int64_t size() const override { return static_cast<int64_t>(begins_.size()); }
  // Throws TrainerError (DATA) with the row, line, column and byte of a syntax
  // error.
  nlohmann::ordered_json Parse(int64_t index) const override;

 private:
  size_t Begin(int64_t index) const override { return begins_.at(index); }
  // Of the row, by brackets or by the line's end; looked for anew, as the index of a
  // large file should stay small.
  size_t End(int64_t index) const;
  // Of the line that `at` lies in: \n, \r\n or \r.
  size_t LineEnd(size_t at) const;
  std::string_view text() const { return text_.view(); }
  void SplitLines(size_t at, RowLimit limit);
  void SplitArray(size_t at, RowLimit limit);
  TrainerError SyntaxError(int64_t index, size_t offset, const std::string& what,
                           const char* action) const;
  // Throws: the first row that does not parse, else the break at `offset`.
  [[noreturn]] void FailSplit(size_t offset, const std::string& what) const;

  bool is_array_ = false;
  std::vector<size_t> begins_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_JSON_ROWS_H_
