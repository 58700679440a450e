#ifndef LIGER_WORKER_TRAINER_DATA_UNREAD_COLUMNS_H_
#define LIGER_WORKER_TRAINER_DATA_UNREAD_COLUMNS_H_

#include <string>
#include <vector>

#include "worker/trainer/data/row_file.h"
#include "worker/trainer/data/row_reader.h"

namespace liger::trainer {

struct UnreadColumn {
  std::string text;
  bool is_label = false;  // nothing that the model could see
};

// Columns that the file's first rows fill and that are not read, each with why and, where there is
// one, the mapping that reads it: "system (PREFERENCE has no system; ALPACA has: ...)".
// - Those that the job's mapping names, and the method does not read of rows of this format.
// - The prompt of pairs of texts that have it by another program's name (OtherNames). Not where
//   both answers have its text: they then begin with the prompt.
// - Where there is a mapping, those that some format reads as a part of what is said; else system,
//   history and input. Of system and input, where no row fills them by that name, those of other
//   programs' names, too. Not where all their text is in what is read.
// Columns of other names are nobody's loss. Where several are told, the mapping reads all of them.
std::vector<UnreadColumn> UnreadColumns(const RowFile& rows, const RowReader& reader,
                                        bool has_chat_template);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_UNREAD_COLUMNS_H_
