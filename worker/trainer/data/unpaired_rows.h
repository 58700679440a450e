#ifndef LIGER_WORKER_TRAINER_DATA_UNPAIRED_ROWS_H_
#define LIGER_WORKER_TRAINER_DATA_UNPAIRED_ROWS_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "worker/trainer/data/row.h"
#include "worker/trainer/data/tokenize_row.h"

namespace liger::trainer {

// The labelled rows of a pair: its prompt with the chosen answer, which is desirable, and with the
// rejected one, which is not. Any other row is itself alone.
std::vector<Row> Unpaired(Row row);

// The order of the labelled rows of pairs, as TRL 1.16's unpair_preference_dataset has it: of each
// 1000 rows, every chosen answer, then every rejected one.
class UnpairedOrder {
 public:
  // Takes the labelled rows of the next row of the data, `number`, and gives those whose turn has
  // come, with the numbers of the rows they are of.
  std::vector<std::pair<int64_t, TokenizedRow>> Next(int64_t number, std::vector<TokenizedRow> of);
  // What is left behind the last row.
  std::vector<std::pair<int64_t, TokenizedRow>> Rest();

 private:
  int64_t rows_ = 0;
  std::vector<std::pair<int64_t, TokenizedRow>> rejected_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_UNPAIRED_ROWS_H_
