#ifndef LIGER_WORKER_TRAINER_DATA_UNREAD_COLUMNS_H_
#define LIGER_WORKER_TRAINER_DATA_UNREAD_COLUMNS_H_

#include <string>
#include <vector>

#include "worker/trainer/data/row_columns.h"
#include "worker/trainer/data/row_file.h"
#include "worker/trainer/data/row_format.h"

namespace liger::trainer {

// Columns that the file's first rows fill and that are not read, each with why and, where there is
// one, the mapping that reads it: "system (PREFERENCE has no system; ALPACA has: ...)".
// - Those that the job's mapping (names.columns) names, and these rows' format does not read.
// - Where there is a mapping, those that some format reads as a part of what is said; else system
//   and history. Not where all their text is in what is read.
// Columns of other names are nobody's loss.
std::vector<std::string> UnreadColumns(const RowFile& rows, const RowNames& names,
                                       liger::v1::DatasetFormat format, bool has_chat_template);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_UNREAD_COLUMNS_H_
