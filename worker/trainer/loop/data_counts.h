#ifndef LIGER_WORKER_TRAINER_LOOP_DATA_COUNTS_H_
#define LIGER_WORKER_TRAINER_LOOP_DATA_COUNTS_H_

#include <string>
#include <vector>

#include "common/spec/row_counts.h"
#include "worker/trainer/data/dataset.h"

namespace liger::trainer {

// What a user is told of a split's rows, by the names of CheckResult.stats.
struct DataCount {
  const char* name;
  int64_t DataStats::*count;
  bool when_zero;  // told when there are none, too
};
inline constexpr DataCount kDataCounts[] = {
    {"rows", &DataStats::rows, true},
    {"dropped_rows", &DataStats::dropped_rows, true},
    {"truncated_rows", &DataStats::truncated_rows, true},
    {"tokens", &DataStats::tokens, true},
    {"target_tokens", &DataStats::target_tokens, true},
    {"packs", &DataStats::packs, false},
    {"pairs", &DataStats::pairs, false},
    {"equal_pairs", &DataStats::equal_pairs, false},
    {"empty_answers", &DataStats::empty_answers, false},
    {"empty_prompts", &DataStats::empty_prompts, false},
    {"cut_prompts", &DataStats::cut_prompts, false},
    {"lost_prompts", &DataStats::lost_prompts, false},
};

// Adds them to `counts`, each name behind `prefix` ("" or kEvalRows).
void AddCounts(const std::string& prefix, const DataStats& stats, RowCounts* counts);

// "training: 48 rows, ..." and "evaluation: ...", if there is one, for the log.
std::vector<std::string> DescribeData(const Dataset& dataset);

// "an epoch takes 45 rows of a.jsonl, which has 90 (0.5 times each)": of each of several weighted
// sources. Empty: an epoch is every row once.
std::vector<std::string> DescribeMix(const ExampleSet& rows, const liger::v1::DatasetSpec& spec);

// What the rows of each source are read as: "ALPACA", or "ALPACA and TEXT" where its files differ.
std::vector<std::string> FormatNames(const Dataset& dataset);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_DATA_COUNTS_H_
