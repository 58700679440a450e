#ifndef LIGER_WORKER_TRAINER_DATA_ROW_FORMAT_H_
#define LIGER_WORKER_TRAINER_DATA_ROW_FORMAT_H_

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "liger/v1/job_spec.pb.h"
#include "worker/trainer/data/example.h"
#include "worker/trainer/data/row_columns.h"
#include "worker/trainer/data/row_file.h"

namespace liger::trainer {

using ColumnNames = std::set<std::string>;

// Rows of a file that are looked at for what it holds.
inline constexpr int64_t kFirstRows = 64;

// "ALPACA"
std::string FormatName(liger::v1::DatasetFormat format);

// The columns that say what rows of the format are read from, in the order in which they speak.
// Those of every format (label, tools, chat_template_kwargs) are left out.
const std::vector<std::string>& ReadColumns(liger::v1::DatasetFormat format);
// Of those, the ones that rows for that kind of method are read from.
std::vector<std::string> ReadColumns(liger::v1::DatasetFormat format, RowKind kind);

// The columns of the file's first row, but for those that none of its first rows
// fills: a file that joins rows of several formats has the columns of all of them.
ColumnNames FilledColumns(const RowFile& rows, const RowColumns& first, const RowNames& names);

// Whether they hold two answers to compare, as text, messages or tokens.
bool HoldsPairs(const ColumnNames& columns);
// Whether they hold an answer by itself.
bool HoldsAnswers(const ColumnNames& columns);

// Of a file of one row: throws TrainerError (DATA) where that is not a row, but whole columns or an
// object around the rows.
void CheckOnlyRow(const RowColumns& first, RowKind kind);

// Throws TrainerError (DATA) where the job names a format, and the columns are those of
// another one alone.
void CheckNamedFormat(liger::v1::DatasetFormat named, const RowColumns& first,
                      const ColumnNames& filled, RowKind kind);

// The format that the columns show: the one that reads most of those that the job's mapping
// names, and of equal ones the most specific. Columns that the first row has, but no row fills,
// decide where the filled ones show none, so that the error is about the empty field. Throws
// TrainerError (DATA) when they are those of no format.
liger::v1::DatasetFormat DetectFormat(const RowColumns& first, const ColumnNames& filled,
                                      RowKind kind);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_ROW_FORMAT_H_
