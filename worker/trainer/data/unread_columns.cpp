#include "worker/trainer/data/unread_columns.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

using liger::v1::DatasetFormat;
using nlohmann::ordered_json;

// What could be a part of the rows beside what the format reads. Left out: what commonly repeats
// it, such as the messages of a preference row's chosen answer, or an ALPACA row's prompt.
std::vector<std::string> MissedBy(DatasetFormat format) {
  switch (format) {
    case liger::v1::DATASET_FORMAT_ALPACA:
      return {"messages", "conversations", "completion"};
    case liger::v1::DATASET_FORMAT_MESSAGES:
      return {"system", "history", "conversations"};
    case liger::v1::DATASET_FORMAT_SHAREGPT:
      return {"messages", "completion"};
    case liger::v1::DATASET_FORMAT_PREFERENCE:
      return {"system", "instruction", "input", "history", "conversations"};
    case liger::v1::DATASET_FORMAT_PROMPT_COMPLETION:
      return {"system", "instruction", "input", "history", "messages", "conversations"};
    default:
      return {};
  }
}

// Of those, what counts in a file whose columns the job does not name, too.
const std::set<std::string> kSaidBefore = {"system", "history"};

// Of the columns that a mapping names or replaces, those that count.
const std::set<std::string> kSaid = {"instruction", "input",    "output",        "system",
                                     "history",     "messages", "conversations", "prompt",
                                     "completion",  "chosen",   "rejected",      "text"};

constexpr char kContext[] = "context";

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

void AppendTexts(const ordered_json& value, std::string* texts) {
  if (value.is_string()) absl::StrAppend(texts, " ", value.get_ref<const std::string&>());
  if (!value.is_structured()) return;
  for (const auto& [key, member] : value.items()) {
    if (value.is_array() || (key != "role" && key != "from" && key != "type")) {
      AppendTexts(member, texts);
    }
  }
}

// All text in a value, each run of white space one space.
std::string TextOf(const ordered_json& value) {
  std::string text;
  AppendTexts(value, &text);
  absl::RemoveExtraAsciiWhitespace(&text);
  return text;
}

// Whether each text of the value, at any depth, is a part of `read`.
bool Repeats(const ordered_json& value, const std::string& read) {
  if (!value.is_structured()) return read.find(TextOf(value)) != std::string::npos;
  return std::ranges::all_of(value.items(), [&](const auto& member) {
    const bool is_name = value.is_object() && (member.key() == "role" || member.key() == "from" ||
                                               member.key() == "type");
    return is_name || Repeats(member.value(), read);
  });
}

// One file's columns, and what is told of those that are not read.
class Unread {
 public:
  Unread(const ordered_json& first, const RowReader& reader, bool has_chat_template)
      : first_(first),
        names_(reader.names()),
        format_(reader.format()),
        kind_(reader.kind()),
        has_chat_template_(has_chat_template) {
    // Rows without messages may be called that, too (RowReader).
    const bool of_prompts =
        format_ == liger::v1::DATASET_FORMAT_MESSAGES && !first.contains(InFile("messages"));
    if (of_prompts) format_ = liger::v1::DATASET_FORMAT_PROMPT_COMPLETION;
    const auto& mapping = names_.columns;
    for (const auto& [column, in_file] : mapping) taken_.insert(in_file);
    for (const auto& [column, in_file] : mapping) {
      const bool is_label = column == "label" || column == "kto_tag";
      if (is_label && kind_ != RowKind::kLabelled) {
        why_[in_file] = {absl::StrCat(names_.fields.columns, ".", column,
                                      ", which kto alone reads, of rows with one answer: ",
                                      "remove the mapping"),
                         true, true};
      }
      if (!kSaid.contains(column)) continue;
      if (!Reads(format_, column)) {
        why_[in_file] = {Remedy(column).empty() ? OfMapped(column) : HasNone(column), true};
      } else if (!taken_.contains(column)) {
        why_[column] = {absl::StrCat(names_.fields.columns, ".", column, " is ", in_file), false};
      }
    }
    for (const std::string& column : MissedBy(format_)) {
      if (mapping.contains(column) || taken_.contains(column)) continue;
      if (mapping.empty() && !kSaidBefore.contains(column)) continue;
      why_[column] = {HasNone(column), false};
    }
    if (const std::string how = OfContext(); !how.empty()) why_[kContext] = {how, false};
  }

  bool empty() const { return why_.empty(); }

  // What the row fills of them, and does not repeat what is read; each is told once.
  void Take(const ordered_json& row, std::vector<UnreadColumn>* unread) {
    ordered_json read = ordered_json::array();
    for (const std::string& column : ReadColumns(format_, kind_)) {
      if (const auto it = row.find(InFile(column)); it != row.end()) read.push_back(*it);
    }
    const std::string text = TextOf(read);
    std::erase_if(why_, [&](const auto& column) {
      const auto it = row.find(column.first);
      if (it == row.end()) return false;
      const bool is_mapped_label = column.second.mapped && (it->is_boolean() || it->is_number());
      if (TextOf(*it).empty() && !is_mapped_label) return false;
      if (!column.second.mapped && Repeats(*it, text)) return false;
      unread->push_back(
          {absl::StrCat(column.first, " (", column.second.text, ")"), column.second.is_label});
      return true;
    });
  }

 private:
  struct Why {
    std::string text;
    bool mapped;
    bool is_label = false;
  };

  bool Reads(DatasetFormat format, const std::string& column) const {
    const std::vector<std::string> read = ReadColumns(format, kind_);
    return std::ranges::find(read, column) != read.end();
  }

  std::string InFile(const std::string& column) const {
    const auto it = names_.columns.find(column);
    return it == names_.columns.end() ? column : it->second;
  }

  bool Has(const std::string& column) const {
    return names_.columns.contains(column) || (first_.contains(column) && !taken_.contains(column));
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

  // Beside a mapping: of text that other programs call context, how ALPACA's input reads it. ""
  // where the rows have another input, or no mapping reads it.
  std::string OfContext() const {
    const auto value = first_.find(kContext);
    const bool text = value != first_.end() && value->is_string();
    if (!text || names_.columns.empty() || taken_.contains(kContext) || Has("input")) return "";
    std::map<std::string, std::string> columns = names_.columns;
    columns["input"] = kContext;
    if (format_ == liger::v1::DATASET_FORMAT_ALPACA) {
      return absl::StrCat("ALPACA's input can be it: ", Mapping(columns));
    }
    const std::string remedy = Remedy("input", columns);
    return remedy.empty() ? "" : absl::StrCat(FormatName(format_), " has no input", remedy);
  }

  // "dataset.columns: {prompt: question}".
  std::string Mapping(const std::map<std::string, std::string>& columns) const {
    std::vector<std::string> pairs;
    for (const auto& [name, in_file] : columns) {
      if (name != in_file) pairs.push_back(absl::StrCat(name, ": ", in_file));
    }
    const std::string& field = names_.fields.columns;
    return pairs.empty() ? absl::StrCat("leave ", field, " out")
                         : absl::StrCat(field, ": {", absl::StrJoin(pairs, ", "), "}");
  }

  std::string Remedy(const std::string& column) const { return Remedy(column, names_.columns); }

  // "; ALPACA has: ...", the mapping with which another format reads the rows and that column, too.
  // "" where there is none. `columns`: the mapping to begin with.
  std::string Remedy(const std::string& column, std::map<std::string, std::string> columns) const {
    const bool of_messages = format_ == liger::v1::DATASET_FORMAT_MESSAGES;
    const auto other =
        of_messages ? liger::v1::DATASET_FORMAT_SHAREGPT : liger::v1::DATASET_FORMAT_ALPACA;
    const bool in_place = of_messages ? Has("messages") : Has("prompt");
    if (!in_place || column == "instruction" || !Reads(other, column)) return "";
    // Turns that only a chat template writes.
    if (kSaidBefore.contains(column) && !has_chat_template_) return "";
    const auto value = first_.find(InFile(column));
    if (value != first_.end() && !value->is_null()) {
      const bool pairs = value->is_array() && std::ranges::all_of(*value, [](const auto& pair) {
                           return pair.is_array();
                         });
      if (column == "history" ? !pairs : !value->is_string()) return "";
    }
    for (const std::string& name : ReadColumns(format_, kind_)) {
      if (!Has(name)) continue;
      const std::string in_file = InFile(name);
      if (!of_messages && !first_.at(in_file).is_string()) return "";  // ALPACA's are text
      columns.erase(name);
      columns[name == "messages"     ? "conversations"
              : name == "prompt"     ? "instruction"
              : name == "completion" ? "output"
                                     : name] = in_file;
    }
    return absl::StrCat("; ", FormatName(other), " has: ", Mapping(columns));
  }

  const ordered_json& first_;
  const RowNames& names_;
  DatasetFormat format_;
  const RowKind kind_;
  const bool has_chat_template_;
  std::set<std::string> taken_;     // of the file's columns, by the mapping
  std::map<std::string, Why> why_;  // by the name in the file
};

}  // namespace

std::vector<UnreadColumn> UnreadColumns(const RowFile& rows, const RowReader& reader,
                                        bool has_chat_template) {
  const ordered_json first = rows.Parse(0);
  Unread columns(first, reader, has_chat_template);
  std::vector<UnreadColumn> unread;
  for (int64_t i = 0; !columns.empty() && i < std::min(rows.size(), kFirstRows); ++i) {
    try {
      columns.Take(i == 0 ? first : rows.Parse(i), &unread);
    } catch (const TrainerError&) {
      break;  // a row that is not asked for, or told already
    }
  }
  return unread;
}

}  // namespace liger::trainer
