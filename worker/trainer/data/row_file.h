#ifndef LIGER_WORKER_TRAINER_DATA_ROW_FILE_H_
#define LIGER_WORKER_TRAINER_DATA_ROW_FILE_H_

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

#include "worker/trainer/data/data_text.h"
#include "worker/trainer/data/row_limit.h"
#include "worker/trainer/error.h"

namespace liger::trainer {

// The rows of a file of data, each an object of columns. The file is split
// when it is opened; each row is parsed when asked for, from any thread.
class RowFile {
 public:
  virtual ~RowFile() = default;

  const std::string& path() const { return path_; }
  virtual int64_t size() const = 0;  // rows that can be asked for
  // About how many the file has: size(), unless a limit ended the reading before.
  virtual int64_t AboutInAll() const = 0;

  // Row `index` (0-based), an object whose keys keep their order. Throws
  // TrainerError (DATA) with the row and place of what is wrong.
  virtual nlohmann::ordered_json Parse(int64_t index) const = 0;

  // Every value is text, and so are numbers and truth values.
  virtual bool all_text() const { return false; }
  // The type that the file itself gives a column, for messages; "" when it gives
  // none.
  virtual std::string ColumnType(const std::string& column) const { return ""; }

  // An error about the row: "FILE: row 17 (line 230): WHAT".
  TrainerError Fail(int64_t index, const std::string& what, const std::string& action) const;

 protected:
  explicit RowFile(std::string path) : path_(std::move(path)) {}

 private:
  // Where in the file the row is, for messages: " (line 230)".
  virtual std::string Place(int64_t index) const { return ""; }

  const std::string path_;
};

// One that is text.
class TextRows : public RowFile {
 protected:
  TextRows(const std::string& path, const std::string& scratch_dir);

  int64_t AboutInAll() const override;
  // Said where rows were looked for up to this byte alone, and more follow.
  void EndAt(size_t at) { end_ = at; }
  // Where the row begins in the text.
  virtual size_t Begin(int64_t index) const = 0;

  DataText text_;

 private:
  std::string Place(int64_t index) const override;

  std::optional<size_t> end_;  // unset: the text's end
};

// A .csv file by its name (also .csv.gz and .csv.zst), Parquet and Arrow's IPC
// files and streams by their content, else JSON by its content. Large packed text is unpacked to a
// file in `scratch_dir` (unpacked_text.h).
// Memory taken: 8 bytes a row of text; of Parquet and Arrow what ArrowTable keeps.
// Throws TrainerError (DATA): the file cannot be read, is none of these (RequireNotForeign), holds
// no rows, or is broken between two rows.
std::unique_ptr<const RowFile> OpenRows(const std::string& path, RowLimit limit,
                                        const std::string& scratch_dir = "");

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_ROW_FILE_H_
