#ifndef LIGER_WORKER_TRAINER_DATA_ROW_COLUMNS_H_
#define LIGER_WORKER_TRAINER_DATA_ROW_COLUMNS_H_

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "worker/trainer/data/row.h"
#include "worker/trainer/data/row_file.h"

namespace liger::trainer {

// The job's fields that say how a file is read, for messages: one of several sources has its own.
struct RowFields {
  std::string format = "dataset.format";
  std::string columns = "dataset.columns";
  std::string roles = "dataset.roles";
};

// What a file calls things (DatasetSpec.columns and roles).
struct RowNames {
  std::map<std::string, std::string> columns;  // name in the file by the format's name
  std::map<std::string, std::string> roles;    // role by name in the file
  RowFields fields;
  // Evaluation rows: what a file has by the format's own name alone is read by that
  // (column_names.h).
  bool or_standard = false;
};

// What a column of messages is, for messages about it.
inline constexpr char kMessagesType[] = "lists of {role, content}";

// Typed access to the columns of one parsed row. Everything here throws
// TrainerError (DATA) that names the row and the column.
class RowColumns {
 public:
  // All three must outlive this.
  RowColumns(const RowFile& rows, int64_t index, const RowNames& names);

  // Throws when the row lacks a column that names.columns maps to.
  void RequireMappedColumns() const;
  // Whether the row has all columns that names.columns maps to.
  bool HasMappedColumns() const;
  // Throws when the row fills one of TRL's or LLaMA-Factory's columns of pictures, video and sound.
  void RequireTextAlone() const;

  // Whether the row fills the column: one that is null does not.
  bool Has(const std::string& column) const;
  // Whether the row has the column, filled or null.
  bool Contains(const std::string& column) const { return row_.contains(column); }
  std::set<std::string> Columns() const;  // all that it contains
  std::set<std::string> Mapped() const;   // those that the job's mapping names
  // Whether the file has no other, nor types of its own: it may be an object around the rows.
  bool OfOneRow() const;
  // The column of text that holds by another program's name (OtherNames) what `column` is for; ""
  // where there is none.
  std::string OtherNameOf(const std::string& column) const;
  // The column of text that ALPACA's input can be read from, beside the prompt of that name: input,
  // or context as other programs call it. "" where there is none, or the prompt repeats it.
  std::string InputBeside(const std::string& prompt) const;
  // The column of the system prompt, by whatever name; "" where there is none.
  std::string SystemName() const;
  // The mapping that a row which lacks the column may need, with what ALPACA's rows have beside
  // `output`.
  std::map<std::string, std::string> LikelyNames(const std::string& column) const;
  // Throws when absent or null.
  const nlohmann::ordered_json& At(const std::string& column) const;

  std::string String(const std::string& column) const;
  bool Bool(const std::string& column) const;
  // "" when absent.
  std::string OptionalString(const std::string& column) const;
  // Token ids in [lowest, limit).
  std::vector<int32_t> TokenIds(const std::string& column, int64_t lowest, int64_t limit) const;

  // A list of messages, or one message, checked and with roles as chat
  // templates know them; {from, value} becomes {role, content}.
  nlohmann::ordered_json Messages(const std::string& column) const;
  // A string, or messages.
  Passage TextOrMessages(const std::string& column) const;

  // tools (a list, or one as JSON text), with wrap_tools as of WrappedTools, and
  // chat_template_kwargs.
  nlohmann::ordered_json TemplateVariables(bool wrap_tools) const;

  // The names of the row's columns, for messages: "a, b, c".
  std::string Names() const;
  std::string NamesInFile() const;  // without the job's mapping
  const RowNames& names() const { return names_; }
  const RowFields& fields() const { return names_.fields; }
  // The name that the column has in the file.
  std::string InFile(const std::string& column) const;

  // What to do about a value of the wrong type: where the file gives types or has texts alone,
  // about the whole column.
  std::string FixType(const std::string& column, const std::string& wanted) const;
  TrainerError Fail(const std::string& column, const std::string& what,
                    const std::string& action) const;

 private:
  nlohmann::ordered_json Message(const std::string& where,
                                 const nlohmann::ordered_json& message) const;
  std::string Role(const std::string& where, const nlohmann::ordered_json& message) const;
  nlohmann::ordered_json ToolCall(const std::string& where,
                                  const nlohmann::ordered_json& message) const;
  void CheckContent(const std::string& where, const nlohmann::ordered_json& message) const;

  // "prompt", or "question (read as prompt)", with the type that the file gives it.
  std::string Described(const std::string& column) const;

  const RowFile& rows_;
  const int64_t index_;
  const RowNames& names_;
  nlohmann::ordered_json row_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_ROW_COLUMNS_H_
