#include "worker/trainer/data/row_file.h"

#include <string_view>

#include "worker/trainer/data/arrow_rows.h"
#include "worker/trainer/data/csv_rows.h"
#include "worker/trainer/data/json_rows.h"
#include "worker/trainer/json_location.h"

namespace liger::trainer {

namespace {

// Also when the file is packed.
bool NamedCsv(std::string_view path) {
  for (const std::string_view packed : {".gz", ".zst"}) {
    if (path.ends_with(packed)) path.remove_suffix(packed.size());
  }
  return path.ends_with(".csv");
}

}  // namespace

TrainerError RowFile::Fail(int64_t index, const std::string& what,
                           const std::string& action) const {
  return DataError(path() + ": row " + std::to_string(index + 1) + Place(index) + ": " + what,
                   action)
      .File(path())
      .Row(index + 1);
}

std::string TextRows::Place(int64_t index) const {
  return " (line " + std::to_string(Locate(text_.view(), Begin(index)).line) + ")";
}

std::unique_ptr<const RowFile> OpenRows(const std::string& path, int64_t max_rows,
                                        const std::string& scratch_dir) {
  if (NamedCsv(path)) return std::make_unique<CsvRows>(path, max_rows, scratch_dir);
  if (ArrowRows::Reads(path)) return std::make_unique<ArrowRows>(path, max_rows);
  return std::make_unique<JsonRows>(path, max_rows, scratch_dir);
}

}  // namespace liger::trainer
