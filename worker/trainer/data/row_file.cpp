#include "worker/trainer/data/row_file.h"

#include <algorithm>
#include <string_view>

#include "worker/trainer/data/arrow_rows.h"
#include "worker/trainer/data/csv_rows.h"
#include "worker/trainer/data/foreign_file.h"
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

TextRows::TextRows(const std::string& path, const std::string& scratch_dir)
    : RowFile(path), text_(path, scratch_dir) {
  RequireNotForeign(path, text_.view());  // what was packed
}

int64_t TextRows::AboutInAll() const {
  if (!end_) return size();
  const double share = static_cast<double>(text_.view().size()) / static_cast<double>(*end_);
  return std::max(size() + 1, static_cast<int64_t>(share * static_cast<double>(size())));
}

std::string TextRows::Place(int64_t index) const {
  return " (line " + std::to_string(Locate(text_.view(), Begin(index)).line) + ")";
}

std::unique_ptr<const RowFile> OpenRows(const std::string& path, RowLimit limit,
                                        const std::string& scratch_dir) {
  RequireNotForeign(path, MapDataFile(path)->bytes());
  if (NamedCsv(path)) return std::make_unique<CsvRows>(path, limit, scratch_dir);
  if (ArrowRows::Reads(path)) return std::make_unique<ArrowRows>(path, limit);
  return std::make_unique<JsonRows>(path, limit, scratch_dir);
}

}  // namespace liger::trainer
