#ifndef LIGER_WORKER_TRAINER_DATA_UNREAD_COLUMNS_H_
#define LIGER_WORKER_TRAINER_DATA_UNREAD_COLUMNS_H_

#include <string>
#include <vector>

#include "worker/trainer/data/row_columns.h"
#include "worker/trainer/data/row_file.h"
#include "worker/trainer/data/row_format.h"

namespace liger::trainer {

// Where the job maps columns (names.columns): those that the file's first rows fill, that some
// format reads as a part of what is said, and that these rows' format does not, or not under that
// name, each with why: "system (PREFERENCE has none)". Columns of other names are nobody's loss.
std::vector<std::string> UnreadColumns(const RowFile& rows, const RowNames& names,
                                       liger::v1::DatasetFormat format);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_UNREAD_COLUMNS_H_
