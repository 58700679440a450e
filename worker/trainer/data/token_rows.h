#ifndef LIGER_WORKER_TRAINER_DATA_TOKEN_ROWS_H_
#define LIGER_WORKER_TRAINER_DATA_TOKEN_ROWS_H_

#include "worker/trainer/data/example.h"
#include "worker/trainer/data/row_columns.h"
#include "worker/trainer/data/row_reader.h"

namespace liger::trainer {

// Rows that came tokenised. Both throw TrainerError (DATA) that names the row and the column.

// input_ids with their labels: `labels` as they are, else the ids where every mask of the row is 1,
// and -100 elsewhere, as TRL's SFTTrainer builds them. The masks are `assistant_masks`, and
// `completion_mask` unless completion_only_loss is false (TRL: only where it is true). A column of
// these that the file has (`filled`) must be in every row. Tokens at either end that an
// `attention_mask` of the row has 0 for are padding, and left out.
Example ReadTokens(const RowColumns& row, const ColumnNames& filled,
                   const RowReaderOptions& options);

// prompt_ids, chosen_ids and rejected_ids.
PairExample ReadTokenPair(const RowColumns& row, int64_t vocab_size);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_TOKEN_ROWS_H_
