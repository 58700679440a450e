#ifndef LIGER_WORKER_TRAINER_DATA_ROW_LIMIT_H_
#define LIGER_WORKER_TRAINER_DATA_ROW_LIMIT_H_

#include <cstddef>
#include <cstdint>

namespace liger::trainer {

// Where the reading of a file ends: at its first rows and what lies in its first bytes, whichever
// is more. 0 rows: at the file's end.
struct RowLimit {
  int64_t rows = 0;
  size_t bytes = 0;

  RowLimit(int64_t rows, size_t bytes = 0) : rows(rows), bytes(bytes) {}  // NOLINT: as a number
  bool Reached(int64_t num_rows, size_t at) const {
    return rows > 0 && num_rows >= rows && at >= bytes;
  }
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_ROW_LIMIT_H_
