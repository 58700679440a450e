#ifndef LIGER_WORKER_TRAINER_DATA_SOURCE_LOADER_H_
#define LIGER_WORKER_TRAINER_DATA_SOURCE_LOADER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "worker/trainer/data/dataset.h"
#include "worker/trainer/data/row_file.h"
#include "worker/trainer/data/row_reader.h"
#include "worker/trainer/data/source_files.h"
#include "worker/trainer/data/split.h"
#include "worker/trainer/data/tokenize_row.h"

namespace liger::trainer {

// What a source's rows are called and where they lie.
struct SourceSpec {
  std::string name;  // the path as the job has it, for messages
  std::vector<std::string> files;
  liger::v1::DatasetFormat format = liger::v1::DATASET_FORMAT_AUTO;
  RowNames names;
};

// The rows of one source, of all its files one after the other.
class SourceLoader {
 public:
  // Opens every file. Throws TrainerError (DATA). References must outlive this.
  SourceLoader(const SourceSpec& source, const LoadOptions& options, bool strict,
               const Tokenizer& tokenizer, const ChatTemplate* chat_template);

  const std::string& name() const { return name_; }
  int64_t num_rows() const { return num_rows_; }
  // About how many the files have, where LoadOptions::max_rows leaves some out; else num_rows().
  int64_t AboutInAll() const;
  // Those of its files, each once.
  std::vector<liger::v1::DatasetFormat> Formats() const;

  // Rows by their ascending numbers within the source; not all of them, where
  // LoadOptions::read_until passes. `split` is the split's name, for messages. The result may be
  // empty.
  Split Load(const std::string& split, const std::vector<int64_t>& rows,
             std::vector<std::string>* warnings) const;

  // Of columns that are left unread, and of those that are read by another name than the job's
  // mapping has.
  void WarnOfColumns(std::vector<std::string>* warnings) const;

  TrainerError AllDropped(const DataStats& stats) const;

  static RowKind Kind(liger::v1::JobSpec::MethodCase method);

 private:
  struct File {
    std::unique_ptr<const RowFile> rows;
    std::unique_ptr<const RowReader> reader;
    int64_t begin;  // number of its first row within the source
  };

  Split Tokenize(std::vector<int64_t> rows) const;
  // Leaves of rows[begin:] those that are read at any rate, once the time for others is over.
  void KeepFirstRows(int64_t begin, std::vector<int64_t>* rows) const;
  // What the split of these rows depends on, but for the job's inputs (TokenCache).
  std::string CacheKey(const std::vector<int64_t>& rows) const;
  // The file that a row lies in.
  const File& FileOf(int64_t row) const;
  // One, or those of a pair's two answers (unpaired_rows.h).
  std::vector<TokenizedRow> TokenizeRow(int64_t row) const;
  TokenizedRow TokenizeContent(const Row& content, const File& file, int64_t index) const;
  void Append(int64_t row, TokenizedRow* tokenized, Split* split) const;
  void Pack(Split* split) const;
  // The first dropped rows, for a message.
  std::string DroppedRows(const DataStats& stats) const;

  const std::string name_;
  const RowNames names_;
  const LoadOptions& options_;
  const bool strict_, has_chat_template_;
  std::vector<File> files_;
  int64_t num_rows_ = 0;
  RowTokenizer tokenizer_;
  // Where a cache is used.
  std::optional<SourceFiles> contents_;
  std::string settings_;  // as text
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_SOURCE_LOADER_H_
