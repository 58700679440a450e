#ifndef LIGER_WORKER_TRAINER_DATA_COLUMN_NAMES_H_
#define LIGER_WORKER_TRAINER_DATA_COLUMN_NAMES_H_

#include <map>
#include <string>
#include <vector>

#include "worker/trainer/data/row_columns.h"
#include "worker/trainer/data/row_format.h"

// What files call the columns: the formats' own names where a job maps others, and other programs'.
namespace liger::trainer {

// Other programs' names of a prompt's, an answer's, the system prompt's or ALPACA's input's column,
// the likeliest first.
const std::vector<std::string>& OtherNames(const std::string& column);

// Names in the file by the format's, as a job has them: "completion: answer, prompt: question".
// Those that are the same in both are left out.
std::string MappingText(const std::map<std::string, std::string>& columns);

// Whether a file may have what the mapping names `column` by that name instead: of evaluation rows
// what a format cannot be without. That an optional one is missing says nothing of its name.
bool MayBeStandard(const RowNames& names, const std::string& column);

// Takes out of the mapping what the row, a file's first, has by the format's name alone.
std::map<std::string, std::string> TakeStandard(const nlohmann::ordered_json& row, RowNames* names);

// Throws where a row of `format` calls a column otherwise than the file's first row, which decides
// for all: it would not be read. `standard`: what TakeStandard took out of names().
void RequireNamesOfFirst(const RowFile& rows, int64_t index, const RowColumns& row,
                         const std::map<std::string, std::string>& standard,
                         liger::v1::DatasetFormat format, RowKind kind);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_COLUMN_NAMES_H_
