#include "worker/trainer/loop/data_counts.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/plural.h"
#include "worker/trainer/data/row_format.h"

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

std::vector<std::string> DescribeMix(const ExampleSet& rows, const liger::v1::DatasetSpec& spec) {
  std::vector<std::string> lines;
  for (size_t i = 0; i < rows.mix.size(); ++i) {
    const int64_t has = rows.mix[i].end - rows.mix[i].begin;
    const int64_t take = rows.mix[i].take;
    lines.push_back(absl::StrCat(
        "an epoch takes ", Plural(take, rows.packed() ? "pack" : "row"), " of ",
        spec.sources(static_cast<int>(i)).uri(), ", which has ", has, " (",
        ThreeDigits(static_cast<double>(take) / static_cast<double>(has)), " times each)"));
  }
  return lines;
}

std::vector<std::string> FormatNames(const Dataset& dataset) {
  const auto add_name = [](std::string* out, liger::v1::DatasetFormat format) {
    out->append(FormatName(format));
  };
  std::vector<std::string> names;
  for (const auto& formats : dataset.formats) {
    names.push_back(absl::StrJoin(formats, " and ", add_name));
  }
  return names;
}

}  // namespace liger::trainer
