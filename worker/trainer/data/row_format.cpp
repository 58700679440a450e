#include "worker/trainer/data/row_format.h"

#include <algorithm>
#include <array>
#include <map>
#include <vector>

#include "absl/strings/ascii.h"
#include "worker/trainer/data/column_names.h"
#include "worker/trainer/data/message_roles.h"

namespace liger::trainer {
namespace {

using liger::v1::DatasetFormat;
using nlohmann::ordered_json;

// The formats that the columns show, the more specific ones first.
std::vector<DatasetFormat> ShownFormats(const ColumnNames& columns, RowKind kind) {
  const auto has = [&](const char* column) { return columns.contains(column); };
  const bool preference = has("chosen") && has("rejected");
  std::vector<DatasetFormat> shown;
  const auto add = [&](bool is_shown, DatasetFormat format) {
    if (is_shown) shown.push_back(format);
  };
  add(has("input_ids") || has("chosen_ids"), liger::v1::DATASET_FORMAT_TOKENIZED);
  add(has("conversations"), liger::v1::DATASET_FORMAT_SHAREGPT);
  add(has("instruction"), liger::v1::DATASET_FORMAT_ALPACA);
  if (preference && kind == RowKind::kPair) {
    shown.push_back(liger::v1::DATASET_FORMAT_PREFERENCE);
    return shown;
  }
  add(has("prompt") && has("completion"), liger::v1::DATASET_FORMAT_PROMPT_COMPLETION);
  add(has("messages"), liger::v1::DATASET_FORMAT_MESSAGES);
  add(has("text"), liger::v1::DATASET_FORMAT_TEXT);
  add(preference, liger::v1::DATASET_FORMAT_PREFERENCE);
  return shown;
}

// How many of the columns rows of the format are read from, for that kind of method.
int64_t CountRead(DatasetFormat format, const ColumnNames& columns, RowKind kind) {
  const bool pair = kind == RowKind::kPair;
  if (format == liger::v1::DATASET_FORMAT_PREFERENCE && !pair) return 0;  // a fault to tell
  return std::ranges::count_if(ReadColumns(format, kind),
                               [&](const std::string& column) { return columns.contains(column); });
}

// Of the formats that the columns show, the one that reads most of those that the job names
// (`mapped`). AUTO: they show none.
DatasetFormat FormatOf(const ColumnNames& columns, const ColumnNames& mapped, RowKind kind) {
  const std::vector<DatasetFormat> shown = ShownFormats(columns, kind);
  if (shown.empty()) return liger::v1::DATASET_FORMAT_AUTO;
  return *std::ranges::max_element(
      shown, {}, [&](DatasetFormat format) { return CountRead(format, mapped, kind); });
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

// Pairs of messages, which hold the prompt where no column does: no Alpaca's, whatever instruction
// is there beside them.
bool HoldsPairsOfMessages(const RowColumns& row) {
  return row.Has("chosen") && row.At("chosen").is_array() && row.Has("rejected") &&
         row.At("rejected").is_array();
}

bool IsByNumber(const ordered_json& value) {  // {"0": ..., "17": ...}
  if (!value.is_object()) return false;
  for (const auto& [key, of_row] : value.items()) {
    if (!std::ranges::all_of(key, absl::ascii_isdigit)) return false;
  }
  return !value.empty();
}

bool IsObjects(const ordered_json& value) {
  return value.is_array() && !value.empty() && value.front().is_object();
}

// A conversation: a row's, not rows.
bool IsMessages(const ordered_json& value) {
  return IsObjects(value) && std::ranges::all_of(value, [](const ordered_json& message) {
           return message.is_object() && (message.contains("role") || message.contains("from"));
         });
}

// Of several rows: as many texts or lists as there are rows.
bool IsWholeColumn(const ordered_json& value) {
  const bool texts = std::ranges::any_of(value, &ordered_json::is_string);
  return std::all_of(value.begin(), value.end(), [&](const ordered_json& one) {
    return one.is_null() || (texts ? one.is_string() : one.is_array());
  });
}

// Whether the columns are lists of one length that no row has: texts, conversations or lists of
// ids by the row. A row may have lists of messages and of ids, and lists of texts beside these.
bool AreWholeColumns(const RowColumns& row, const ColumnNames& columns) {
  static const ColumnNames kOfMessages = {"messages",   "conversations", "prompt",
                                          "completion", "chosen",        "rejected"};
  static const ColumnNames kOfIds = {"input_ids", "prompt_ids", "chosen_ids"};
  bool whole = false;
  for (const std::string& column : columns) {
    if (!row.Has(column) || !row.At(column).is_array() || row.At(column).empty()) return false;
    const ordered_json& value = row.At(column);
    if (value.size() != row.At(*columns.begin()).size()) return false;
    if (kOfMessages.contains(column) && IsObjects(value)) return false;
    if (kOfIds.contains(column) && !value.front().is_array()) return false;
    whole |= IsWholeColumn(value);
  }
  if (columns.size() > 1 || !whole) return whole;
  // One list alone may be anything.
  const std::string& only = *columns.begin();
  const ordered_json& value = row.At(only);
  const bool of_lists = kOfMessages.contains(only) || kOfIds.contains(only);
  return (of_lists && value.front().is_array()) || (only == "text" && value.size() > 1);
}

constexpr char kAsRecords[] =
    "Write a row a line; in pandas, to_json(path, orient='records', lines=True).";

// Of a file whose only row is all its columns: throws where their values are whole columns, as
// pandas' to_json and to_dict write them: {"prompt": {"0": ..., "1": ...}}, {"prompt": [...]}.
void ThrowIfWholeColumns(const RowColumns& row) {
  const ColumnNames columns = row.Columns();
  if (!row.OfOneRow() || columns.empty()) return;
  const bool split = columns.contains("columns") && columns.contains("data");
  if (split && row.Has("columns") && row.At("columns").is_array()) {
    throw row.Fail("", "its columns (" + row.Names() + ") are pandas' orient='split'", kAsRecords);
  }
  const bool by_number = std::ranges::all_of(columns, [&](const std::string& column) {
    return row.Has(column) && IsByNumber(row.At(column));
  });
  if (!by_number && !AreWholeColumns(row, columns)) return;
  throw row.Fail("",
                 "its columns (" + row.Names() + ") are " +
                     (by_number ? "objects by row number" : "lists of all rows' values"),
                 kAsRecords);
}

// Of such a file, too: throws where its rows seem to lie inside of a key.
void ThrowIfWrapped(const RowColumns& row) {
  if (!row.OfOneRow()) return;
  const ColumnNames columns = row.Columns();
  std::vector<std::string> lists, splits;
  for (const std::string& column : columns) {
    if (!row.Has(column) || !row.At(column).is_array() || IsMessages(row.At(column))) continue;
    if (columns.size() == 1 || IsObjects(row.At(column))) lists.push_back(column);
  }
  for (const std::string& column : lists) {
    if (column.starts_with("train") || column.starts_with("test") || column.starts_with("val") ||
        column == "dev" || column.starts_with("eval")) {
      splits.push_back(column);
    }
  }
  if (splits.size() > 1) {
    throw row.Fail("", "its columns (" + row.Names() + ") are the rows of several splits",
                   "Write the rows of each to a file of its own, a row a line: " + splits[0] +
                       ".jsonl, " + splits[1] + ".jsonl.");
  }
  if (lists.empty()) return;
  const char* how = columns.size() == 1 ? "is a list and all that the row has"
                                        : "is a list of objects in the file's only row";
  throw row.Fail(lists.front(), how,
                 "Where it holds the rows, write that list alone to the file, or a row a line "
                 "(.jsonl).");
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

// The conversation that ends with an answer, where there is but one conversation.
std::string OnlyConversation(const RowColumns& row) {
  const auto answers = [](const ordered_json& message) {
    const auto role = message.find(message.contains("role") ? "role" : "from");
    return role->is_string() && KnownRole(role->get<std::string>()) == "assistant";
  };
  std::string found;
  for (const std::string& column : row.Columns()) {
    if (!row.Has(column) || !IsMessages(row.At(column))) continue;
    if (!found.empty() || !answers(row.At(column).back())) return "";
    found = column;
  }
  return found;
}

// The mapping that reads rows with other programs' names: "{prompt: query, completion: response}".
// "" where none shows.
std::string LikelyMapping(const RowColumns& row) {
  const auto text_of = [&](const std::string& name) {
    return row.Has(name) && row.At(name).is_string() ? name : row.OtherNameOf(name);
  };
  std::map<std::string, std::string> mapping = row.names().columns;
  const std::string prompt = text_of("prompt"), answer = text_of("completion");
  const std::string system = row.SystemName();
  if (const std::string talk = OnlyConversation(row); !talk.empty()) {
    mapping[system.empty() ? "messages" : "conversations"] = row.InFile(talk);
  } else if (prompt.empty() || answer.empty()) {
    return "";
  } else {
    const std::string input = row.InputBeside(prompt);
    const bool alpaca = row.Has("history") || !system.empty() || !input.empty();
    for (const char* name : {"prompt", "completion", "input", "output"}) mapping.erase(name);
    if (!input.empty()) mapping["input"] = row.InFile(input);
    mapping[alpaca ? "instruction" : "prompt"] = row.InFile(prompt);
    mapping[alpaca ? "output" : "completion"] = row.InFile(answer);
  }
  if (!system.empty()) mapping["system"] = row.InFile(system);
  return "{" + MappingText(mapping) + "}";
}

}  // namespace

const std::vector<std::string>& ReadColumns(DatasetFormat format) {
  static const std::map<DatasetFormat, std::vector<std::string>> kRead = {
      {liger::v1::DATASET_FORMAT_TOKENIZED,
       {"input_ids", "labels", "attention_mask", "completion_mask", "assistant_masks", "prompt_ids",
        "chosen_ids", "rejected_ids"}},
      {liger::v1::DATASET_FORMAT_SHAREGPT, {"system", "conversations", "chosen", "rejected"}},
      {liger::v1::DATASET_FORMAT_ALPACA,
       {"system", "history", "instruction", "input", "output", "chosen", "rejected"}},
      {liger::v1::DATASET_FORMAT_PREFERENCE, {"prompt", "chosen", "rejected"}},
      {liger::v1::DATASET_FORMAT_PROMPT_COMPLETION, {"prompt", "completion"}},
      {liger::v1::DATASET_FORMAT_MESSAGES, {"messages"}},
      {liger::v1::DATASET_FORMAT_TEXT, {"text"}},
      {liger::v1::DATASET_FORMAT_AUTO, {}}};
  const auto it = kRead.find(format);
  return it == kRead.end() ? kRead.at(liger::v1::DATASET_FORMAT_AUTO) : it->second;
}

std::vector<std::string> ReadColumns(DatasetFormat format, RowKind kind) {
  std::vector<std::string> columns = ReadColumns(format);
  std::erase_if(columns, [&](const std::string& column) {
    const bool of_pair = column == "chosen" || column == "rejected";
    return kind == RowKind::kPair ? column == "output" : of_pair;
  });
  return columns;
}

std::string FormatName(DatasetFormat format) {
  return DatasetFormat_Name(format).substr(sizeof("DATASET_FORMAT_") - 1);
}

void CheckNamedFormat(DatasetFormat named, const RowColumns& first, const ColumnNames& filled,
                      RowKind kind) {
  ThrowIfWholeColumns(first);
  if (HoldsFormat(named, first.Columns(), kind)) return;
  if (named == liger::v1::DATASET_FORMAT_PREFERENCE && HoldsPairsOfMessages(first)) return;
  const DatasetFormat shown = FormatOf(filled, first.Mapped(), kind);
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

void CheckOnlyRow(const RowColumns& first, RowKind kind) {
  ThrowIfWholeColumns(first);
  if (ShownFormats(first.Columns(), kind).empty()) ThrowIfWrapped(first);
}

DatasetFormat DetectFormat(const RowColumns& first, const ColumnNames& filled, RowKind kind) {
  ThrowIfWholeColumns(first);
  DatasetFormat format = FormatOf(filled, first.Mapped(), kind);
  if (format == liger::v1::DATASET_FORMAT_AUTO) {
    format = FormatOf(first.Columns(), first.Mapped(), kind);
  }
  const bool alpaca = format == liger::v1::DATASET_FORMAT_ALPACA;
  if (alpaca && kind == RowKind::kPair && HoldsPairsOfMessages(first)) {
    return liger::v1::DATASET_FORMAT_PREFERENCE;
  }
  if (format != liger::v1::DATASET_FORMAT_AUTO) return format;
  ThrowIfWrapped(first);
  ThrowIfObjects(first);
  const std::string mapping = kind == RowKind::kPair ? "" : LikelyMapping(first);
  throw first.Fail(
      "", "its columns (" + first.Names() + ") are those of no dataset format",
      (mapping.empty() ? "" : "Set " + first.fields().columns + ": " + mapping + "; or else: ") +
          "Give instruction and output; messages; conversations; prompt and completion; "
          "prompt, chosen and rejected; text; or token ids. Columns of other names are told in " +
          first.fields().columns + ", such as {prompt: question, completion: answer}.");
}

}  // namespace liger::trainer
