#include "worker/trainer/data/column_names.h"

#include <algorithm>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"

namespace liger::trainer {
namespace {

using nlohmann::ordered_json;

// Whether the mapping reads the file's column of that name as something.
bool IsMapped(const RowNames& names, const std::string& in_file) {
  return std::ranges::any_of(names.columns,
                             [&](const auto& column) { return column.second == in_file; });
}

}  // namespace

const std::vector<std::string>& OtherNames(const std::string& column) {
  using Names = std::vector<std::string>;
  static const Names kNone,
      kPrompts = {"query", "question", "user", "human", "input"},
      kAnswers = {"response", "answer", "output", "completion", "assistant", "target"};
  static const std::map<std::string, Names> kNames = {
      {"prompt", kPrompts},
      {"instruction", kPrompts},
      {"completion", kAnswers},
      {"output", kAnswers},
      {"system", {"system_prompt", "system_message", "sys"}},
      {"input", {"context", "ctx"}}};
  const auto it = kNames.find(column);
  return it == kNames.end() ? kNone : it->second;
}

std::string MappingText(const std::map<std::string, std::string>& columns) {
  std::string text;
  for (const auto& [name, in_file] : columns) {
    if (name != in_file) absl::StrAppend(&text, text.empty() ? "" : ", ", name, ": ", in_file);
  }
  return text;
}

bool MayBeStandard(const RowNames& names, const std::string& column) {
  static const std::set<std::string> kNeeded = {
      "instruction",   "output",     "prompt", "completion", "messages",
      "conversations", "text",       "chosen", "rejected",   "input_ids",
      "prompt_ids",    "chosen_ids", "label",  "kto_tag",    "rejected_ids"};
  return names.or_standard && kNeeded.contains(column) && !IsMapped(names, column);
}

std::map<std::string, std::string> TakeStandard(const ordered_json& row, RowNames* names) {
  std::map<std::string, std::string> standard;
  for (const auto& [name, in_file] : names->columns) {
    const bool alone = row.contains(name) && !row.contains(in_file);
    if (alone && MayBeStandard(*names, name)) standard.emplace(name, in_file);
  }
  for (const auto& [name, in_file] : standard) names->columns.erase(name);
  return standard;
}

void RequireNamesOfFirst(const RowFile& rows, int64_t index, const RowColumns& row,
                         const std::map<std::string, std::string>& standard,
                         liger::v1::DatasetFormat format, RowKind kind) {
  if (!row.names().or_standard) return;
  std::vector<std::string> read = ReadColumns(format, kind);
  if (kind == RowKind::kLabelled) read.insert(read.end(), {"label", "kto_tag"});
  const auto require = [&](const std::string& name, const std::string& used,
                           const std::string& other) {
    if (row.Contains(name) || std::ranges::find(read, name) == read.end()) return;
    if (!rows.Parse(index).contains(other)) return;  // told by what needs it
    const std::string field = row.fields().columns + "." + name;
    throw rows
        .Fail(index, "column " + other + ": the file's first row has " + used + " instead",
              "An evaluation file's rows need one of the two names: rename " + other + " to " +
                  used + " (" + field + " is " + (used == name ? other : used) + ").")
        .Field(field);
  };
  for (const auto& [name, in_file] : standard) require(name, name, in_file);
  for (const auto& [name, in_file] : row.names().columns) {
    if (MayBeStandard(row.names(), name)) require(name, in_file, name);
  }
}

std::string RowColumns::OtherNameOf(const std::string& column) const {
  for (const std::string& name : OtherNames(column)) {
    if (name != column && Has(name) && row_.at(name).is_string()) return name;
  }
  return "";
}

std::string RowColumns::InputBeside(const std::string& prompt) const {
  const auto text_of = [this](const std::string& name) {
    return Has(name) && row_.at(name).is_string() ? &row_.at(name).get_ref<const std::string&>()
                                                  : nullptr;
  };
  std::vector<std::string> names = OtherNames("input");
  names.insert(names.begin(), "input");
  for (const std::string& name : names) {
    const std::string *text = text_of(name), *said = text_of(prompt);
    if (name == prompt || text == nullptr) continue;
    const bool repeats =
        said != nullptr && !text->empty() && said->find(*text) != std::string::npos;
    return repeats ? "" : name;
  }
  return "";
}

std::string RowColumns::SystemName() const {
  return Has("system") ? "system" : OtherNameOf("system");
}

std::map<std::string, std::string> RowColumns::LikelyNames(const std::string& column) const {
  const std::string other = OtherNameOf(column);
  if (other.empty()) return {{"prompt", "question"}};
  std::map<std::string, std::string> columns = {{column, InFile(other)}};
  if (column != "output") return columns;
  const std::string input = InputBeside("instruction"), system = SystemName();
  if (!input.empty()) columns["input"] = InFile(input);
  if (!system.empty()) columns["system"] = InFile(system);
  return columns;
}

}  // namespace liger::trainer
