#ifndef LIGER_COMMON_SPEC_ROW_COUNTS_H_
#define LIGER_COMMON_SPEC_ROW_COUNTS_H_

#include <cstdint>
#include <string>

#include "google/protobuf/map.h"

namespace liger {

// How the counts of a data set's rows travel: as entries of CheckResult.stats, "rows", "packs", ...
// of the training rows, "eval_rows", ... of the evaluation's.
using RowCounts = google::protobuf::Map<std::string, int64_t>;
inline constexpr char kEvalRows[] = "eval_";

// A count; 0: none, or not counted.
int64_t CountOf(const RowCounts& counts, const std::string& name);

// "360 rows in 137 packs, 0 dropped, 10 cut to max_length; 69068 tokens, 51345 of them trained on":
// of the rows whose counts begin with `prefix` ("" or kEvalRows), of which there are some.
std::string DescribeRows(const RowCounts& counts, const std::string& prefix);

}  // namespace liger

#endif  // LIGER_COMMON_SPEC_ROW_COUNTS_H_
