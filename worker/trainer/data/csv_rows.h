#ifndef LIGER_WORKER_TRAINER_DATA_CSV_ROWS_H_
#define LIGER_WORKER_TRAINER_DATA_CSV_ROWS_H_

#include <string>
#include <string_view>
#include <vector>

#include "worker/trainer/data/row_file.h"

namespace liger::trainer {

// A .csv file (RFC 4180): comma-separated, the first line names the columns,
// fields with commas, quotes or line breaks stand in double quotes with inner
// quotes doubled; lines end in \n, \r\n or \r, empty ones are skipped. Every value
// is a string; an empty field is null, as Hugging Face datasets reads it. Blanks around
// the names of columns are left out, those of values are kept.
class CsvRows : public TextRows {
 public:
  CsvRows(const std::string& path, RowLimit limit, const std::string& scratch_dir = "");

  int64_t size() const override { return static_cast<int64_t>(begins_.size()); }
  // Throws TrainerError (DATA): not as many fields as the header, a quoted
  // field that goes on after its quote, or has a blank before it where names in the
  // header have, text that is not UTF-8.
  nlohmann::ordered_json Parse(int64_t index) const override;
  bool all_text() const override { return true; }

 private:
  size_t Begin(int64_t index) const override { return begins_.at(index); }
  void ReadHeader(size_t end);
  void TrimNames();
  TrainerError NotCsv(const std::string& what) const;

  std::vector<std::string> columns_;
  bool spaced_ = false;  // a blank stands before one of them
  std::vector<size_t> begins_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_CSV_ROWS_H_
