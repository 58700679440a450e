#include "worker/trainer/data/row_format.h"

#include <algorithm>
#include <array>

#include "absl/strings/ascii.h"

namespace liger::trainer {
namespace {

using liger::v1::DatasetFormat;
using nlohmann::ordered_json;

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
  if (format == liger::v1::DATASET_FORMAT_PREFERENCE) {
    return pair && (has("prompt") || !(has("conversations") || has("instruction")));
  }
  if (kind == RowKind::kPair) return pair;
  if (format == liger::v1::DATASET_FORMAT_TEXT) return has("text");
  const bool completion = has("prompt") && has("completion");
  return completion || (format == liger::v1::DATASET_FORMAT_MESSAGES && has("messages"));
}

bool IsByNumber(const ordered_json& value) {  // {"0": ..., "17": ...}
  if (!value.is_object()) return false;
  for (const auto& [key, of_row] : value.items()) {
    if (!std::ranges::all_of(key, absl::ascii_isdigit)) return false;
  }
  return !value.empty();
}

bool IsTexts(const ordered_json& value) {
  return value.is_array() && !value.empty() &&
         std::all_of(value.begin(), value.end(),
                     [](const ordered_json& one) { return one.is_string(); });
}

// Of a file whose only row is all its columns: throws where their values are whole columns, as
// pandas' to_json and to_dict write them: {"prompt": {"0": ..., "1": ...}}, {"prompt": [...]}.
void ThrowIfWholeColumns(const RowColumns& row) {
  const ColumnNames columns = row.Columns();
  const auto all = [&](bool (*is)(const ordered_json&)) {
    return !columns.empty() && std::ranges::all_of(columns, [&](const std::string& column) {
      return row.Has(column) && is(row.At(column));
    });
  };
  const bool by_number = all(IsByNumber);
  const bool of_texts = columns.size() > 1 && all(IsTexts);
  if (!row.OfOneRow() || !(by_number || of_texts)) return;
  throw row.Fail("",
                 "its columns (" + row.Names() + ") are " +
                     (by_number ? "objects by row number" : "lists of all rows' values"),
                 "Write a row a line; in pandas, to_json(path, orient='records', lines=True).");
}

// Of such a file, too: throws where its values are objects alone: {"a": {...row}, "b": {...row}}.
void ThrowIfObjects(const RowColumns& row) {
  const ColumnNames columns = row.Columns();
  const auto is_object = [&](const std::string& column) {
    return row.Has(column) && row.At(column).is_object();
  };
  if (columns.empty() || !row.OfOneRow() || !std::ranges::all_of(columns, is_object)) return;
  throw row.Fail("", "is an object of rows (by the keys " + row.Names() + ")",
                 "Make it an array of the rows: [{...}, {...}].");
}

}  // namespace

std::string FormatName(DatasetFormat format) {
  return DatasetFormat_Name(format).substr(sizeof("DATASET_FORMAT_") - 1);
}

void CheckNamedFormat(DatasetFormat named, const RowColumns& first, const ColumnNames& filled,
                      RowKind kind) {
  ThrowIfWholeColumns(first);
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
  return std::ranges::any_of(std::array{"completion", "output", "messages", "input_ids"},
                             [&](const char* column) { return columns.contains(column); });
}

DatasetFormat DetectFormat(const RowColumns& first, const ColumnNames& filled, RowKind kind) {
  ThrowIfWholeColumns(first);
  DatasetFormat format = FormatOf(filled, kind);
  if (format == liger::v1::DATASET_FORMAT_AUTO) format = FormatOf(first.Columns(), kind);
  if (format != liger::v1::DATASET_FORMAT_AUTO) return format;
  const ColumnNames columns = first.Columns();
  const std::string only = columns.size() == 1 ? *columns.begin() : "";
  if (!only.empty() && first.OfOneRow() && first.Has(only) && first.At(only).is_array()) {
    throw first.Fail(only, "is a list and all that the row has",
                     "Where it holds the rows, write that list alone to the file.");
  }
  ThrowIfObjects(first);
  throw first.Fail(
      "", "its columns (" + first.Names() + ") are those of no dataset format",
      "Give instruction and output; messages; conversations; prompt and completion; "
      "prompt, chosen and rejected; text; or token ids. Columns of other names are told in " +
          first.fields().columns + ", such as {prompt: question, completion: answer}.");
}

}  // namespace liger::trainer
