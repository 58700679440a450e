#include "worker/trainer/data/unread_columns.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>

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
      return {"system", "conversations"};
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

// Of the columns that a mapping replaces, those that count.
const std::set<std::string> kSaid = {"instruction", "input",    "output",        "system",
                                     "history",     "messages", "conversations", "prompt",
                                     "completion",  "chosen",   "rejected",      "text"};

bool Fills(const ordered_json& row, const std::string& column) {
  const auto it = row.find(column);
  return it != row.end() && !it->is_null() && !it->empty() && *it != "";
}

}  // namespace

std::vector<std::string> UnreadColumns(const RowFile& rows, const RowNames& names,
                                       DatasetFormat format) {
  if (names.columns.empty()) return {};
  std::set<std::string> taken;  // of the file's columns
  for (const auto& [column, in_file] : names.columns) taken.insert(in_file);
  std::map<std::string, std::string> why;  // by the name in the file
  for (const std::string& column : MissedBy(format)) {
    const auto mapped = names.columns.find(column);
    const bool named = mapped != names.columns.end();
    if (!named && taken.contains(column)) continue;
    why[named ? mapped->second : column] = FormatName(format) + " has no " + column;
  }
  for (const auto& [column, in_file] : names.columns) {
    if (!kSaid.contains(column) || taken.contains(column)) continue;
    why[column] = names.fields.columns + "." + column + " is " + in_file;
  }
  std::vector<std::string> unread;
  for (int64_t i = 0; !why.empty() && i < std::min(rows.size(), kFirstRows); ++i) {
    const ordered_json row = rows.Parse(i);
    std::erase_if(why, [&](const auto& column) {
      const bool filled = Fills(row, column.first);
      if (filled) unread.push_back(column.first + " (" + column.second + ")");
      return filled;
    });
  }
  return unread;
}

}  // namespace liger::trainer
