#include "worker/trainer/data/row_file.h"

#include "worker/trainer/data/csv_rows.h"
#include "worker/trainer/data/json_rows.h"
#include "worker/trainer/json_location.h"

namespace liger::trainer {

TrainerError RowFile::Fail(int64_t index, const std::string& what,
                           const std::string& action) const {
  const int64_t line = Locate(text_.view(), Begin(index)).line;
  return DataError(path() + ": row " + std::to_string(index + 1) + " (line " +
                       std::to_string(line) + "): " + what,
                   action)
      .File(path())
      .Row(index + 1);
}

std::unique_ptr<const RowFile> OpenRows(const std::string& path, int64_t max_rows) {
  if (path.ends_with(".csv") || path.ends_with(".csv.gz")) {
    return std::make_unique<CsvRows>(path, max_rows);
  }
  return std::make_unique<JsonRows>(path, max_rows);
}

}  // namespace liger::trainer
