#include "worker/trainer/data/unread_columns.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "worker/trainer/data/column_names.h"
#include "worker/trainer/data/row_texts.h"
#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

using liger::v1::DatasetFormat;
using nlohmann::ordered_json;
using Mapping = std::map<std::string, std::string>;  // name in the file by the format's name

// What could be a part of the rows beside what the format reads, or be read if it had the format's
// name. Left out: what commonly repeats it, such as the messages of a preference row's chosen
// answer, or an ALPACA row's prompt.
std::vector<std::string> MissedBy(DatasetFormat format) {
  switch (format) {
    case liger::v1::DATASET_FORMAT_ALPACA:
      return {"system", "input", "messages", "conversations", "completion"};
    case liger::v1::DATASET_FORMAT_MESSAGES:
      return {"system", "history", "conversations"};
    case liger::v1::DATASET_FORMAT_SHAREGPT:
      return {"system", "messages", "completion"};
    case liger::v1::DATASET_FORMAT_PREFERENCE:
      return {"system", "instruction", "input", "history", "conversations"};
    case liger::v1::DATASET_FORMAT_PROMPT_COMPLETION:
      return {"system", "instruction", "input", "history", "messages", "conversations"};
    default:
      return {};
  }
}

// Of those, turns that only a chat template writes.
const std::set<std::string> kSaidBefore = {"system", "history"};
// Of those, what counts in a file whose columns the job does not name, too.
const std::set<std::string> kWellKnown = {"system", "history", "input"};

// Of the columns that a mapping names or replaces, those that count.
const std::set<std::string> kSaid = {"instruction", "input",    "output",        "system",
                                     "history",     "messages", "conversations", "prompt",
                                     "completion",  "chosen",   "rejected",      "text"};

// What rows of a format cannot be without.
std::vector<std::string> Needs(DatasetFormat format) {
  switch (format) {
    case liger::v1::DATASET_FORMAT_ALPACA:
      return {"instruction", "output"};
    case liger::v1::DATASET_FORMAT_SHAREGPT:
      return {"conversations"};
    case liger::v1::DATASET_FORMAT_PREFERENCE:
      return {"chosen", "rejected"};
    default:
      return ReadColumns(format);
  }
}

// Of other programs' names of a prompt, those of whoever wrote it, too: no prompt where it is one
// word.
bool IsPerson(const std::string& column, const std::string& text) {
  return (column == "user" || column == "human") &&
         std::ranges::all_of(text, [](char c) { return absl::ascii_isgraph(c); });
}

// Pairs of [question, answer].
bool IsExchanges(const ordered_json& value) {
  return value.is_array() &&
         std::ranges::all_of(value, [](const ordered_json& pair) { return pair.is_array(); });
}

// One file's columns, and what is told of those that are not read.
class Unread {
 public:
  // rows: the file's first.
  Unread(std::vector<ordered_json> rows, const RowReader& reader, bool has_chat_template)
      : rows_(std::move(rows)),
        names_(reader.names()),
        format_(reader.format()),
        kind_(reader.kind()),
        has_chat_template_(has_chat_template),
        columns_(names_.columns) {
    for (const auto& [column, in_file] : columns_) taken_.insert(in_file);
    for (const ordered_json& row : rows_) Show(row);
    // Rows without messages may be called that, too (RowReader).
    const bool of_prompts = format_ == liger::v1::DATASET_FORMAT_MESSAGES &&
                            !rows_.front().contains(InFile("messages"));
    if (of_prompts) format_ = liger::v1::DATASET_FORMAT_PROMPT_COMPLETION;
    const std::string prompt = OtherPrompt();
    if (!prompt.empty()) {
      columns_["prompt"] = prompt;
      taken_.insert(prompt);
    }
    std::vector<std::string> read = ReadColumns(format_, kind_);
    std::ranges::transform(read, read.begin(), [this](const auto& name) { return InFile(name); });
    for (const ordered_json& row : rows_) read_.push_back(TextOf(row, read));
    AddMapped();
    AddBeside();
    if (!prompt.empty()) why_[prompt] = {OfPrompt(), true};
  }

  std::vector<UnreadColumn> Told() const {
    std::vector<UnreadColumn> told;
    for (const auto& [in_file, why] : why_) {
      const ordered_json& value = Shown(in_file);
      const bool fills = HasText(value) || value.is_boolean() || value.is_number();
      if (!(why.repeated_too ? fills : IsMissed(in_file))) continue;
      told.push_back({absl::StrCat(in_file, " (", why.text, ")"), why.is_label});
    }
    return told;
  }

 private:
  struct Why {
    std::string text;
    bool repeated_too = false;  // told where what is read repeats it, too
    bool is_label = false;
  };

  void Show(const ordered_json& row) {
    for (const auto& [column, value] : row.items()) {
      const ordered_json*& shown = shown_[column];
      if (shown == nullptr || (!HasText(*shown) && !value.is_null())) shown = &value;
    }
  }

  // What the mapping names, and what it is there for instead.
  void AddMapped() {
    const std::string field = names_.fields.columns + ".";
    for (const auto& [column, in_file] : names_.columns) {
      const bool is_label = column == "label" || column == "kto_tag";
      if (is_label && kind_ != RowKind::kLabelled) {
        why_[in_file] = {absl::StrCat(field, column, ", which kto alone reads, of rows with one ",
                                      "answer: remove the mapping"),
                         true, true};
      }
      if (!kSaid.contains(column)) continue;
      if (!Reads(format_, column)) {
        why_[in_file] = {Remedy(column).empty() ? OfMapped(column) : HasNone(column), true};
      } else if (!taken_.contains(column)) {
        why_[column] = {absl::StrCat(field, column, " is ", in_file)};
      }
    }
  }

  // What lies beside the columns that are read.
  void AddBeside() {
    for (const std::string& column : MissedBy(format_)) {
      if (names_.columns.contains(column)) continue;
      if (names_.columns.empty() && !kWellKnown.contains(column)) continue;
      const std::string in_file = Holder(column);
      if (in_file.empty()) continue;
      if (!Reads(format_, column)) {
        why_[in_file] = {HasNone(column)};
      } else if (in_file != column) {
        why_[in_file] = {OfOtherName(column)};
      }
    }
  }

  // The first value of the file's column that has text; else any that there is, else null.
  const ordered_json& Shown(const std::string& in_file) const {
    static const ordered_json kNone;
    const auto it = shown_.find(in_file);
    return it == shown_.end() ? kNone : *it->second;
  }

  // Whether a row fills the file's column with text that is in nothing that is read.
  bool IsMissed(const std::string& in_file) const {
    for (size_t i = 0; i < rows_.size(); ++i) {
      const auto it = rows_[i].find(in_file);
      if (it != rows_[i].end() && HasText(*it) && !Repeats(*it, read_[i])) return true;
    }
    return false;
  }

  bool IsText(const std::string& in_file) const {
    return Shown(in_file).is_string() && HasText(Shown(in_file));
  }

  // The file's column that holds what the formats call `column`; "" where there is none.
  std::string Holder(const std::string& column) const {
    const std::string own = Has(column) ? InFile(column) : "";
    const bool has_others = column == "system" || column == "input";
    if (!has_others || columns_.contains(column) || HasText(Shown(own))) return own;
    for (const std::string& name : OtherNames(column)) {
      if (!taken_.contains(name) && IsText(name)) return name;
    }
    return own;
  }

  // Of pairs of texts without a prompt, the column that holds it by another program's name; ""
  // where there is none. Not one that both answers have, which then begin with the prompt.
  std::string OtherPrompt() const {
    const bool has_own = Has("prompt") && HasText(Shown(InFile("prompt")));
    const std::string chosen = InFile("chosen"), rejected = InFile("rejected");
    if (format_ != liger::v1::DATASET_FORMAT_PREFERENCE || has_own || !IsText(chosen)) return "";
    const auto is_prompt = [&](const ordered_json& row, const std::string& name) {
      const auto it = row.find(name);
      if (it == row.end() || !it->is_string() || !HasText(*it)) return false;
      return !IsPerson(name, *it) &&
             !(Repeats(*it, TextOf(row, {chosen})) && Repeats(*it, TextOf(row, {rejected})));
    };
    for (const std::string& name : OtherNames("prompt")) {
      if (taken_.contains(name) || !IsText(name)) continue;
      if (std::ranges::any_of(rows_, [&](const auto& row) { return is_prompt(row, name); })) {
        return name;
      }
    }
    return "";
  }

  bool Reads(DatasetFormat format, const std::string& column) const {
    const std::vector<std::string> read = ReadColumns(format, kind_);
    return std::ranges::find(read, column) != read.end();
  }

  std::string InFile(const std::string& column) const {
    const auto it = columns_.find(column);
    return it == columns_.end() ? column : it->second;
  }

  bool Has(const std::string& column) const {
    return columns_.contains(column) || (shown_.contains(column) && !taken_.contains(column));
  }

  std::string HasNone(const std::string& column) const {
    return absl::StrCat(FormatName(format_), " has no ", column, Remedy(column));
  }

  // Whether the method takes rows of the format.
  bool Serves(DatasetFormat format) const {
    const bool has_pairs = format == liger::v1::DATASET_FORMAT_PREFERENCE;
    const bool may_have = has_pairs || format == liger::v1::DATASET_FORMAT_ALPACA ||
                          format == liger::v1::DATASET_FORMAT_SHAREGPT;
    return kind_ == RowKind::kPair ? may_have : !has_pairs;
  }

  // Of a column that the mapping names: the format that reads it, and what is missing for that.
  std::string OfMapped(const std::string& column) const {
    DatasetFormat best = liger::v1::DATASET_FORMAT_AUTO;
    std::vector<std::string> missing;
    for (const auto format :
         {liger::v1::DATASET_FORMAT_SHAREGPT, liger::v1::DATASET_FORMAT_ALPACA,
          liger::v1::DATASET_FORMAT_PREFERENCE, liger::v1::DATASET_FORMAT_PROMPT_COMPLETION,
          liger::v1::DATASET_FORMAT_MESSAGES, liger::v1::DATASET_FORMAT_TEXT}) {
      if (!Serves(format) || !Reads(format, column)) continue;
      std::vector<std::string> lacks = Needs(format);
      const bool pairs = kind_ == RowKind::kPair;
      std::erase_if(lacks,
                    [&](const auto& need) { return Has(need) || (pairs && need == "output"); });
      if (best != liger::v1::DATASET_FORMAT_AUTO && lacks.size() >= missing.size()) continue;
      best = format;
      missing = std::move(lacks);
    }
    const std::string mapped = absl::StrCat(names_.fields.columns, ".", column);
    if (best == liger::v1::DATASET_FORMAT_AUTO) {
      return absl::StrCat(mapped, ", but of ", FormatName(format_), " rows the method reads ",
                          absl::StrJoin(ReadColumns(format_, kind_), ", "));
    }
    return absl::StrCat(mapped, ", but the rows are ", FormatName(format_), ": ",
                        missing.empty()
                            ? absl::StrCat("set ", names_.fields.format, " ", FormatName(best))
                            : absl::StrCat("name ", absl::StrJoin(missing, " and "), ", too, for ",
                                           FormatName(best)),
                        ", or remove the mapping");
  }

  // Of a column that the format reads by another name.
  std::string OfOtherName(const std::string& column) const {
    const auto columns = MappingFor(format_);
    const std::string format = FormatName(format_);
    return columns && columns->contains(column)
               ? absl::StrCat(format, "'s ", column, " can be it: ", InJob(*columns))
               : absl::StrCat(format, " has no ", column, " without a chat template");
  }

  // Of the prompt that has another name.
  std::string OfPrompt() const {
    const bool more = std::ranges::any_of(kWellKnown, [this](const std::string& column) {
      const std::string in_file = Holder(column);
      return !in_file.empty() && IsMissed(in_file);
    });
    const auto columns = more ? MappingFor(liger::v1::DATASET_FORMAT_ALPACA) : std::nullopt;
    return absl::StrCat(
        "the rows have no prompt by that name, so what both answers begin with is "
        "taken for it; this column is read by ",
        InJob(columns.value_or(columns_)));
  }

  // "dataset.columns: {prompt: question}".
  std::string InJob(const Mapping& columns) const {
    const std::string text = MappingText(columns), &field = names_.fields.columns;
    return text.empty() ? absl::StrCat("leave ", field, " out")
                        : absl::StrCat(field, ": {", text, "}");
  }

  // The mapping by which the format, the rows' own or one that reads all that theirs does, reads
  // what lies beside, too; none where their values are not such as it reads.
  std::optional<Mapping> MappingFor(DatasetFormat format) const {
    Mapping columns = columns_;
    for (const std::string& name : ReadColumns(format_, kind_)) {
      if (format == format_ || !Has(name)) continue;
      const std::string in_file = InFile(name);
      const bool texts = format == liger::v1::DATASET_FORMAT_ALPACA;
      if (texts && !Shown(in_file).is_string()) return std::nullopt;
      columns.erase(name);
      columns[name == "messages"     ? "conversations"
              : name == "prompt"     ? "instruction"
              : name == "completion" ? "output"
                                     : name] = in_file;
    }
    for (const std::string& name : kWellKnown) {
      const std::string in_file = Holder(name);
      const ordered_json& value = Shown(in_file);
      if (!Reads(format, name) || value.is_null()) continue;
      const bool fits = name == "history" ? IsExchanges(value) : value.is_string();
      const bool writes = has_chat_template_ || !kSaidBefore.contains(name) || !HasText(value);
      if (fits && writes) {
        columns[name] = in_file;
      } else if (Has(name)) {
        return std::nullopt;
      }
    }
    return columns;
  }

  // "; ALPACA has: ...", the mapping with which another format reads the rows and that column, too.
  // "" where there is none.
  std::string Remedy(const std::string& column) const {
    const bool of_messages = format_ == liger::v1::DATASET_FORMAT_MESSAGES;
    const auto other =
        of_messages ? liger::v1::DATASET_FORMAT_SHAREGPT : liger::v1::DATASET_FORMAT_ALPACA;
    const bool in_place = of_messages ? Has("messages") : Has("prompt");
    if (!in_place || column == "instruction" || !Reads(other, column)) return "";
    const auto columns = MappingFor(other);
    if (!columns || !columns->contains(column) || columns->at(column) != Holder(column)) return "";
    return absl::StrCat("; ", FormatName(other), " has: ", InJob(*columns));
  }

  const std::vector<ordered_json> rows_;
  const RowNames& names_;
  DatasetFormat format_;
  const RowKind kind_;
  const bool has_chat_template_;
  Mapping columns_;                                   // the job's, and a prompt of another name
  std::set<std::string> taken_;                       // of the file's columns, by the mapping
  std::map<std::string, const ordered_json*> shown_;  // Shown, by the name in the file
  std::vector<std::string> read_;                     // what is read of each row
  std::map<std::string, Why> why_;                    // by the name in the file
};

// The file's first rows, up to one that cannot be read: not asked for, or told already.
std::vector<ordered_json> LookedAt(const RowFile& rows) {
  std::vector<ordered_json> first = {rows.Parse(0)};
  try {
    while (std::ssize(first) < std::min(rows.size(), kFirstRows)) {
      first.push_back(rows.Parse(std::ssize(first)));
    }
  } catch (const TrainerError&) {
  }
  return first;
}

}  // namespace

std::vector<UnreadColumn> UnreadColumns(const RowFile& rows, const RowReader& reader,
                                        bool has_chat_template) {
  if (MissedBy(reader.format()).empty() && reader.names().columns.empty()) return {};
  return Unread(LookedAt(rows), reader, has_chat_template).Told();
}

}  // namespace liger::trainer
