#ifndef LIGER_WORKER_TRAINER_DATA_ARROW_ROWS_H_
#define LIGER_WORKER_TRAINER_DATA_ARROW_ROWS_H_

#include <memory>
#include <string>

#include "worker/trainer/data/arrow_module.h"
#include "worker/trainer/data/row_file.h"

namespace liger::trainer {

// A Parquet file, or Arrow's IPC file or stream. One row group or record batch
// is read at a time, so the file may be larger than memory.
class ArrowRows : public RowFile {
 public:
  // By the first bytes, or by a name that ends in .parquet or .arrow.
  static bool Reads(const std::string& path);

  // Throws TrainerError: DATA when the file cannot be read or has no rows, CONFIG
  // when Arrow C++ cannot be loaded.
  ArrowRows(const std::string& path, RowLimit limit);

  int64_t size() const override { return size_; }
  int64_t AboutInAll() const override { return table_->num_rows(); }
  nlohmann::ordered_json Parse(int64_t index) const override;
  std::string ColumnType(const std::string& column) const override {
    return table_->ColumnType(column);
  }

 private:
  std::unique_ptr<const MappedFile> file_;
  std::unique_ptr<const ArrowTable> table_;
  int64_t size_ = 0;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_ARROW_ROWS_H_
