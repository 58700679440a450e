#ifndef LIGER_WORKER_TRAINER_DATA_ROW_READER_H_
#define LIGER_WORKER_TRAINER_DATA_ROW_READER_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "liger/v1/job_spec.pb.h"
#include "worker/trainer/data/row.h"
#include "worker/trainer/data/row_columns.h"
#include "worker/trainer/data/row_file.h"
#include "worker/trainer/data/row_format.h"

namespace liger::trainer {

// What a row is read for.
struct RowReaderOptions {
  liger::v1::DatasetFormat format = liger::v1::DATASET_FORMAT_AUTO;
  RowKind kind = RowKind::kSequence;
  // SFT; see LoadOptions.
  std::optional<bool> completion_only_loss;
  // Alpaca rows become conversations when the model has a chat template (as LLaMA-Factory's
  // AlpacaDatasetConverter makes them), and the Stanford Alpaca prompt when it has none.
  bool has_chat_template = false;
  // Contents that are lists of parts become strings (content_parts.h).
  bool joins_parts = false;
  // Token ids of tokenised rows must be below this.
  int64_t vocab_size = 0;
  RowNames names;
};

// Turns the rows of one file into Row, by the format that the spec names or, for
// AUTO, that the columns of its first row show (DetectFormat). Immutable; Read may
// be called from any thread.
//
//   format             columns                                              gives
//   ALPACA             instruction, [input], output                         prompt + completion
//                      instruction, [input], chosen, rejected               preference
//                      (also [system], [history: [[question, answer], ...]])
//   MESSAGES           messages                                             conversation
//   SHAREGPT           conversations: [{from, value}], [system], [tools]    conversation
//                      conversations, chosen, rejected                      preference
//   PREFERENCE         [prompt], chosen, rejected                           preference
//   PROMPT_COMPLETION  prompt, completion                                   prompt + completion
//   TEXT               text                                                 text
//   TOKENIZED          input_ids, [labels, or masks: token_rows.h]          tokens
//                      prompt_ids, chosen_ids, rejected_ids                 pair of tokens
//
// For RowKind::kLabelled, a file of pairs gives preference rows, which are two labelled rows each
// (unpaired_rows.h): one that has chosen and rejected, and no label of an answer beside them.
//
// Preference rows without a prompt, or with a plain-text prompt beside whole
// conversations, have it extracted: what chosen and rejected begin with alike
// (TRL's extract_prompt). Messages of a prompt that both answers repeat are taken off these, where
// TRL has them twice. Beside texts a prompt that is null where other rows have
// one is an error. ShareGPT's speakers human, gpt, observation and function become user, assistant
// and tool; TRL leaves the names as they are and so renders roles that no chat template knows.
class RowReader {
 public:
  // Throws TrainerError (DATA): the columns fit no format, or the format does
  // not serve the method. `rows` must outlive this.
  RowReader(const RowFile& rows, const RowReaderOptions& options);

  liger::v1::DatasetFormat format() const { return options_.format; }
  // What its rows are read for: kPair where labelled rows are made of pairs.
  RowKind kind() const { return options_.kind; }
  // With the mapping of columns that the file is read by: without standard_columns().
  const RowNames& names() const { return options_.names; }
  // What RowNames::or_standard let it read by the format's own name: the job's by that name.
  const std::map<std::string, std::string>& standard_columns() const { return standard_columns_; }

  // Throws TrainerError (DATA) naming the row and column: a column missing, of
  // another name than in the first row (RequireNamesOfFirst) or of the wrong type, a conversation
  // that is empty or has an unknown role.
  Row Read(int64_t index) const;

 private:
  const RowFile& rows_;
  RowReaderOptions options_;  // as kind() and names() say
  std::map<std::string, std::string> standard_columns_;
  ColumnNames filled_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_ROW_READER_H_
