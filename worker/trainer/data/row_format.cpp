#include "worker/trainer/data/row_format.h"

#include <algorithm>
#include <array>
#include <cstdint>

namespace liger::trainer {
namespace {

using liger::v1::DatasetFormat;

constexpr int64_t kFirstRows = 64;

// AUTO: those of no format.
DatasetFormat FormatOf(const ColumnNames& columns, RowKind kind) {
  const auto has = [&](const char* column) { return columns.contains(column); };
  const bool preference = has("chosen") && has("rejected");
  if (has("input_ids") || has("chosen_ids")) return liger::v1::DATASET_FORMAT_TOKENIZED;
  if (has("conversations")) return liger::v1::DATASET_FORMAT_SHAREGPT;
  if (has("instruction")) return liger::v1::DATASET_FORMAT_ALPACA;
  if (preference && kind == RowKind::kPair) return liger::v1::DATASET_FORMAT_PREFERENCE;
  if (has("prompt") && has("completion")) return liger::v1::DATASET_FORMAT_PROMPT_COMPLETION;
  if (has("messages")) return liger::v1::DATASET_FORMAT_MESSAGES;
  if (has("text")) return liger::v1::DATASET_FORMAT_TEXT;
  return preference ? liger::v1::DATASET_FORMAT_PREFERENCE : liger::v1::DATASET_FORMAT_AUTO;
}

}  // namespace

ColumnNames FilledColumns(const RowFile& rows, const RowColumns& first, const RowNames& names) {
  ColumnNames filled, empty;
  for (const std::string& column : first.Columns()) {
    (first.Has(column) ? filled : empty).insert(column);
  }
  for (int64_t i = 1; !empty.empty() && i < std::min(rows.size(), kFirstRows); ++i) {
    const RowColumns row(rows, i, names);
    std::erase_if(empty, [&](const std::string& column) {
      if (row.Has(column)) filled.insert(column);
      return row.Has(column);
    });
  }
  return filled;
}

bool HoldsPairs(const ColumnNames& columns) {
  return (columns.contains("chosen") && columns.contains("rejected")) ||
         columns.contains("chosen_ids");
}

bool HoldsAnswers(const ColumnNames& columns) {
  if (columns.contains("conversations") && !HoldsPairs(columns)) return true;
  return std::ranges::any_of(
      std::array{"completion", "output", "messages", "input_ids"},
      [&](const char* column) { return columns.contains(column); });
}

DatasetFormat DetectFormat(const RowColumns& first, const ColumnNames& filled, RowKind kind) {
  DatasetFormat format = FormatOf(filled, kind);
  if (format == liger::v1::DATASET_FORMAT_AUTO) format = FormatOf(first.Columns(), kind);
  if (format != liger::v1::DATASET_FORMAT_AUTO) return format;
  const ColumnNames columns = first.Columns();
  const std::string only = columns.size() == 1 ? *columns.begin() : "";
  if (!only.empty() && first.Has(only) && first.At(only).is_array()) {
    throw first.Fail(only, "is a list and all that the row has",
                     "Where it holds the rows, write that list alone to the file.");
  }
  throw first.Fail(
      "", "its columns (" + first.Names() + ") are those of no dataset format",
      "Give instruction and output; messages; conversations; prompt and completion; "
      "prompt, chosen and rejected; text; or token ids. Columns of other names are told "
      "in dataset.columns, such as {prompt: question, completion: answer}.");
}

}  // namespace liger::trainer
