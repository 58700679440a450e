#include "worker/trainer/loop/data_counts.h"

#include "absl/strings/str_join.h"

namespace liger::trainer {

void AddCounts(const std::string& prefix, const DataStats& stats, RowCounts* counts) {
  for (const DataCount& one : kDataCounts) {
    if (one.when_zero || stats.*one.count > 0) (*counts)[prefix + one.name] = stats.*one.count;
  }
}

std::vector<std::string> DescribeData(const Dataset& dataset) {
  std::vector<std::string> lines;
  RowCounts counts;
  AddCounts("", dataset.train_stats, &counts);
  lines.push_back("training: " + DescribeRows(counts, ""));
  if (dataset.eval_stats.rows == 0) return lines;
  AddCounts(kEvalRows, dataset.eval_stats, &counts);
  lines.push_back("evaluation: " + DescribeRows(counts, kEvalRows));
  return lines;
}

std::vector<std::string> FormatNames(const Dataset& dataset) {
  constexpr size_t kPrefix = sizeof("DATASET_FORMAT_") - 1;
  const auto add_name = [](std::string* out, liger::v1::DatasetFormat format) {
    out->append(DatasetFormat_Name(format).substr(kPrefix));
  };
  std::vector<std::string> names;
  for (const auto& formats : dataset.formats) {
    names.push_back(absl::StrJoin(formats, " and ", add_name));
  }
  return names;
}

}  // namespace liger::trainer
