#include "worker/trainer/data/row_format.h"

#include <algorithm>
#include <array>

namespace liger::trainer {
namespace {

using liger::v1::DatasetFormat;

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

// Whether the columns hold what rows of the format are told by (RowReader).
bool HoldsFormat(DatasetFormat format, const ColumnNames& columns, RowKind kind) {
  const auto has = [&](const char* column) { return columns.contains(column); };
  switch (format) {
    case liger::v1::DATASET_FORMAT_TOKENIZED:
      return has("input_ids") || has("prompt_ids") || has("chosen_ids");
    case liger::v1::DATASET_FORMAT_SHAREGPT:
      return has("conversations");
    case liger::v1::DATASET_FORMAT_ALPACA:
      return has("instruction");
    default:
      break;
  }
  const bool pair = has("chosen") && has("rejected");
  if (format == liger::v1::DATASET_FORMAT_PREFERENCE || kind == RowKind::kPair) return pair;
  if (format == liger::v1::DATASET_FORMAT_TEXT) return has("text");
  const bool completion = has("prompt") && has("completion");
  return completion || (format == liger::v1::DATASET_FORMAT_MESSAGES && has("messages"));
}

// Throws where the row's values are objects alone: {"0": {...row}, "1": {...row}}, or whole
// columns as pandas' to_json writes them, {"question": {"0": ..., "1": ...}}.
void ThrowIfObjects(const RowColumns& row, const ColumnNames& columns) {
  bool whole_columns = true;
  for (const std::string& column : columns) {
    if (!row.Has(column) || !row.At(column).is_object()) return;
    whole_columns = whole_columns && row.At(column).contains("0");
  }
  if (columns.empty()) return;
  if (whole_columns) {
    throw row.Fail("", "its columns (" + row.Names() + ") are objects by row number",
                   "Write a row a line; in pandas, to_json(path, orient='records', lines=True).");
  }
  throw row.Fail("", "is an object of rows (by the keys " + row.Names() + ")",
                 "Make it an array of the rows: [{...}, {...}].");
}

}  // namespace

std::string FormatName(DatasetFormat format) {
  return DatasetFormat_Name(format).substr(sizeof("DATASET_FORMAT_") - 1);
}

void CheckNamedFormat(DatasetFormat named, const RowColumns& first, const ColumnNames& filled,
                      RowKind kind) {
  if (HoldsFormat(named, first.Columns(), kind)) return;
  const DatasetFormat shown = FormatOf(filled, kind);
  if (shown == liger::v1::DATASET_FORMAT_AUTO || shown == named) return;
  throw first
      .Fail("",
            "its columns (" + first.Names() + ") are those of the format " + FormatName(shown) +
                ", and the job's " + first.fields().format + " is " + FormatName(named),
            "Leave " + first.fields().format + " out, or set it to " + FormatName(shown) + ".")
      .Field(first.fields().format);
}

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
  ThrowIfObjects(first, columns);
  throw first.Fail(
      "", "its columns (" + first.Names() + ") are those of no dataset format",
      "Give instruction and output; messages; conversations; prompt and completion; "
      "prompt, chosen and rejected; text; or token ids. Columns of other names are told in " +
          first.fields().columns + ", such as {prompt: question, completion: answer}.");
}

}  // namespace liger::trainer
