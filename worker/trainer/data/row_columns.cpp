#include "worker/trainer/data/row_columns.h"

#include <algorithm>
#include <set>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "worker/trainer/data/column_names.h"
#include "worker/trainer/data/message_roles.h"
#include "worker/trainer/exact_json.h"

namespace liger::trainer {
namespace {

using nlohmann::ordered_json;

std::string TypeName(const ordered_json& value) {
  if (value.is_number_integer() || IsLongInteger(value)) return "an integer";
  if (value.is_number()) return "a number";
  if (value.is_array()) return "a list";
  if (value.is_object()) return "an object";
  if (value.is_null()) return "null";
  if (value.is_binary()) return "a value of that type";  // arrow/value.h
  return value.is_string() ? "a string" : "a boolean";
}

const std::string kTextOrMessages = std::string("text, or as ") + kMessagesType;

bool IsJsonText(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  return begin != std::string::npos && (text[begin] == '[' || text[begin] == '{');
}

}  // namespace

RowColumns::RowColumns(const RowFile& rows, int64_t index, const RowNames& names)
    : rows_(rows), index_(index), names_(names) {
  row_ = rows.Parse(index);
  if (names.columns.empty()) return;
  ordered_json renamed = ordered_json::object();
  for (const auto& [name, in_file] : names.columns) {
    if (const auto it = row_.find(in_file); it != row_.end()) renamed[name] = *it;
  }
  for (const auto& [name, in_file] : names.columns) {
    row_.erase(name);
    row_.erase(in_file);
  }
  row_.update(renamed);
}

bool RowColumns::HasMappedColumns() const {
  return std::ranges::all_of(names_.columns,
                             [this](const auto& column) { return row_.contains(column.first); });
}

void RowColumns::RequireMappedColumns() const {
  for (const auto& [name, in_file] : names_.columns) {
    if (row_.contains(name)) continue;
    const std::string field = fields().columns + "." + name;
    const bool either = MayBeStandard(names_, name);
    std::string action = "Correct " + field + ", which names it.";
    if (names_.or_standard && name != in_file) {
      action = std::string("Evaluation rows need ") + (either ? "one of the two" : "it, too") +
               ": correct " + field + ", which names it, or rename their column.";
    }
    throw rows_
        .Fail(index_,
              "column " + in_file + ": the column is missing" +
                  (either ? ", and so is " + name : "") + "; the row has: " + NamesInFile(),
              action)
        .Field(field);
  }
}

void RowColumns::RequireTextAlone() const {
  for (const char* column : {"image", "images", "videos", "audios"}) {
    const auto it = row_.find(column);
    if (it == row_.end() || it->empty() || *it == "") continue;
    throw Fail(column, "the row is not text alone",
               "Only text can be trained on; remove the column, or the rows that fill it.");
  }
}

std::string RowColumns::InFile(const std::string& column) const {
  // Fields inside of a column are addressed as "messages[2].content".
  const std::string name = column.substr(0, column.find_first_of("[."));
  const auto it = names_.columns.find(name);
  return it == names_.columns.end() ? name : it->second;
}

std::string RowColumns::FixType(const std::string& column, const std::string& wanted) const {
  const bool by_file = !rows_.ColumnType(InFile(column)).empty();
  if (by_file) return "Write the column as " + wanted + ".";
  if (!rows_.all_text()) return "Correct the row.";
  return "A .csv file has texts alone: write the rows as .jsonl, with " + wanted +
         " in this column.";
}

std::string RowColumns::Described(const std::string& column) const {
  const std::string name = column.substr(0, column.find_first_of("[."));
  const std::string in_file = InFile(column), type = rows_.ColumnType(in_file);
  std::string described = in_file + column.substr(name.size());
  if (in_file != name) described += " (read as " + name + ")";
  if (!type.empty()) described += " (of type " + type + ")";
  return described;
}

bool RowColumns::Has(const std::string& column) const {
  const auto it = row_.find(column);
  return it != row_.end() && !it->is_null();
}

bool RowColumns::OfOneRow() const {
  const std::set<std::string> columns = Columns();
  return rows_.size() == 1 && std::ranges::all_of(columns, [&](const std::string& column) {
           return rows_.ColumnType(InFile(column)).empty();
         });
}

std::set<std::string> RowColumns::Columns() const {
  std::set<std::string> columns;
  for (const auto& [name, value] : row_.items()) columns.insert(name);
  return columns;
}

std::set<std::string> RowColumns::Mapped() const {
  std::set<std::string> mapped;
  for (const auto& [name, in_file] : names_.columns) mapped.insert(name);
  return mapped;
}

const ordered_json& RowColumns::At(const std::string& column) const {
  if (Has(column)) return row_.at(column);
  if (Contains(column)) {
    throw Fail(column, (rows_.all_text() ? "is empty" : "is null") + ("; the row has: " + Names()),
               "Every row needs this column: fill it in, or remove the row.");
  }
  // The file's first row has what the job names.
  if (names_.columns.contains(column)) {
    throw Fail(column, "the column is missing; the row has: " + NamesInFile(),
               "Every row needs this column, which " + fields().columns + "." + column +
                   " names: rename the row's, or remove the row.");
  }
  throw Fail(column, "the column is missing; the row has: " + Names(),
             "Every row needs this column. Where the file calls it otherwise, say so in " +
                 fields().columns + " (" + MappingText(LikelyNames(column)) +
                 "); if it is of another format, set " + fields().format + ".");
}

std::string RowColumns::String(const std::string& column) const {
  const ordered_json& value = At(column);
  if (!value.is_string()) {
    const char* how = value.is_structured() ? "" : "; in pyarrow, cast(pa.string()) of it";
    throw Fail(column, "must be a string, not " + TypeName(value),
               FixType(column, std::string("text") + how));
  }
  return value.get<std::string>();
}

bool RowColumns::Bool(const std::string& column) const {
  const ordered_json& value = At(column);
  if (rows_.all_text()) {
    for (const auto& [text, truth] : {std::pair{"true", true},
                                      {"True", true},
                                      {"TRUE", true},
                                      {"1", true},
                                      {"false", false},
                                      {"False", false},
                                      {"FALSE", false},
                                      {"0", false}}) {
      if (value == text) return truth;
    }
    throw Fail(column, "must be true or false, not " + value.dump(), "Correct the row.");
  }
  if (value == 0 || value == 1) return value == 1;
  if (!value.is_boolean()) {
    throw Fail(column, "must be true or false, not " + TypeName(value),
               FixType(column, "truth values"));
  }
  return value.get<bool>();
}

std::string RowColumns::OptionalString(const std::string& column) const {
  return Has(column) ? String(column) : "";
}

std::vector<int32_t> RowColumns::TokenIds(const std::string& column, int64_t lowest,
                                          int64_t limit) const {
  const ordered_json& value = At(column);
  if (!value.is_array()) {
    throw Fail(column, "must be a list of token ids, not " + TypeName(value),
               FixType(column, "lists of whole numbers"));
  }
  std::vector<int32_t> ids;
  ids.reserve(value.size());
  for (const ordered_json& id : value) {
    const std::string where = column + "[" + std::to_string(ids.size()) + "]";
    if (!id.is_number_integer()) {
      throw Fail(where, "must be a token id, not " + TypeName(id),
                 FixType(column, "lists of whole numbers"));
    }
    // Text gives unsigned numbers, columns of int64 signed ones.
    const bool too_large = id.is_number_unsigned()
                               ? id.get<uint64_t>() >= static_cast<uint64_t>(limit)
                               : id.get<int64_t>() >= limit;
    if (too_large || id.get<int64_t>() < lowest) {
      throw Fail(where,
                 "token id " + id.dump() + " lies outside of [" + std::to_string(lowest) + ", " +
                     std::to_string(limit) + ")",
                 "Tokenise the data with this model's tokenizer.");
    }
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

ordered_json RowColumns::Messages(const std::string& column) const {
  const ordered_json& value = At(column);
  if (value.is_object()) return ordered_json::array({Message(column, value)});
  if (!value.is_array()) {
    const bool json = value.is_string() && IsJsonText(value.get_ref<const std::string&>());
    throw Fail(column,
               json ? "must be a list of messages, not a string of JSON"
                    : "must be a list of messages, not " + TypeName(value),
               json && !rows_.all_text() ? std::string("Write the column as ") + kMessagesType +
                                               ", not as their text (in Python, json.loads of it)."
                                         : FixType(column, kMessagesType));
  }
  if (value.empty()) {
    throw Fail(column, "the conversation is empty", "Remove the row, or give it messages.");
  }
  ordered_json messages = ordered_json::array();
  for (const ordered_json& message : value) {
    messages.push_back(Message(column + "[" + std::to_string(messages.size()) + "]", message));
  }
  return messages;
}

Passage RowColumns::TextOrMessages(const std::string& column) const {
  const ordered_json& value = At(column);
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array() && !value.is_object()) {
    throw Fail(column, "must be a string or a list of messages, not " + TypeName(value),
               FixType(column, kTextOrMessages));
  }
  if (value.is_array() && !value.empty() && !value.front().is_object()) {
    throw Fail(column + "[0]", "must be a message {role, content}, not " + TypeName(value.front()),
               FixType(column, kTextOrMessages));
  }
  return Messages(column);
}

ordered_json RowColumns::Message(const std::string& where, const ordered_json& message) const {
  if (!message.is_object()) {
    throw Fail(where, "must be a message {role, content}, not " + TypeName(message),
               FixType(where, kMessagesType));
  }
  ordered_json out;
  out["role"] = Role(where, message);
  if (out["role"] == kFunctionCall) return ToolCall(where, message);
  for (const auto& [key, value] : message.items()) {
    if (key == "role" || key == "from") continue;
    out[key == "value" && !message.contains("content") ? "content" : key] = value;
  }
  CheckContent(where, out);
  return out;
}

std::string RowColumns::Role(const std::string& where, const ordered_json& message) const {
  const std::string key = message.contains("role") ? "role" : "from";
  const auto it = message.find(key);
  if (it == message.end() || it->is_null()) {
    throw Fail(where, "the message has no role", "Give it a role (or ShareGPT's from).");
  }
  if (!it->is_string()) {
    throw Fail(where + "." + key, "must be a string, not " + TypeName(*it),
               FixType(where, "messages whose " + key + " is text"));
  }
  const std::string& role = it->get_ref<const std::string&>();
  if (const auto it = names_.roles.find(role); it != names_.roles.end()) return it->second;
  const std::string known = KnownRole(role);
  if (!known.empty()) return known;
  throw Fail(where + "." + key, "unknown role \"" + role + "\"",
             "Use system, developer, user, assistant or tool (ShareGPT: human, gpt, function_call, "
             "observation), or say in " +
                 fields().roles + " which of these it is.");
}

ordered_json RowColumns::ToolCall(const std::string& where, const ordered_json& message) const {
  const auto it = message.find(message.contains("content") ? "content" : "value");
  if (it == message.end() || !it->is_string()) {
    throw Fail(where, "the function_call has no text", "Give its call as JSON text.");
  }
  try {
    return ToolCallMessage(it->get<std::string>());
  } catch (const std::invalid_argument& e) {
    throw Fail(where, std::string("the text of a function_call is no call of tools: ") + e.what(),
               "Write {\"name\": ..., \"arguments\": {...}} or a list of them as JSON.");
  }
}

void RowColumns::CheckContent(const std::string& where, const ordered_json& message) const {
  const auto it = message.find("content");
  if (it == message.end() || it->is_null()) {
    // An assistant that only calls tools says nothing.
    if (message.contains("tool_calls") || message.contains("function_call")) return;
    throw Fail(where, "the message has no content", "Give it content (or ShareGPT's value).");
  }
  if (it->is_string()) return;
  if (!it->is_array()) {
    throw Fail(where + ".content", "must be a string, not " + TypeName(*it),
               FixType(where, "messages whose content is text"));
  }
  for (const ordered_json& part : *it) {
    const auto member = [&](const char* name) {
      return part.is_object() && part.contains(name) ? part.at(name) : ordered_json();
    };
    if (member("type") != "text") {
      throw Fail(where + ".content", "holds a part that is not text",
                 "Only text can be trained on; remove images, audio and video.");
    }
    if (part.contains("text") && !part.at("text").is_string()) {
      throw Fail(where + ".content",
                 "a part's text must be a string, not " + TypeName(part.at("text")),
                 FixType(where, "messages whose content is text"));
    }
  }
}

ordered_json RowColumns::TemplateVariables(bool wrap_tools) const {
  ordered_json variables = ordered_json::object();
  if (Has("chat_template_kwargs")) {
    variables = At("chat_template_kwargs");
    if (!variables.is_object()) {
      throw Fail("chat_template_kwargs", "must be an object, not " + TypeName(variables),
                 FixType("chat_template_kwargs", "objects"));
    }
  }
  if (!Has("tools")) return variables;
  ordered_json tools = At("tools");
  if (tools.is_string()) {
    // "null" is what Python writes for a row without any.
    const std::string text = tools.get<std::string>();
    if (text.empty()) return variables;
    try {
      tools = ParseExactJson(text);
    } catch (const JsonTextError& e) {
      throw Fail("tools", "is a string, but " + std::string(e.what()), "Correct the row.");
    }
  }
  if (tools.is_null()) return variables;
  if (!tools.is_array()) {
    throw Fail("tools", "must be a list of tools, not " + TypeName(tools),
               FixType("tools", "lists of tools, or as their JSON text"));
  }
  if (tools.empty()) return variables;
  variables["tools"] = wrap_tools ? WrappedTools(std::move(tools)) : std::move(tools);
  return variables;
}

std::string RowColumns::Names() const {
  constexpr int kMost = 20;
  std::string names;
  int told = 0;
  for (const auto& [name, value] : row_.items()) {
    if (value.is_null()) continue;
    if (++told > kMost) return names + ", ...";
    names += (names.empty() ? "" : ", ") + name;
  }
  return names.empty() ? "none" : names;
}

std::string RowColumns::NamesInFile() const {
  static const RowNames kAsInTheFile;
  return RowColumns(rows_, index_, kAsInTheFile).Names();
}

TrainerError RowColumns::Fail(const std::string& column, const std::string& what,
                              const std::string& action) const {
  TrainerError error = rows_.Fail(
      index_, (column.empty() ? "" : "column " + Described(column) + ": ") + what, action);
  error.Field(column);
  return error;
}

}  // namespace liger::trainer
