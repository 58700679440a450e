#ifndef LIGER_WORKER_TRAINER_DATA_ARROW_MODULE_H_
#define LIGER_WORKER_TRAINER_DATA_ARROW_MODULE_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace liger::trainer {

// What the module liger_arrow.so, which links Arrow C++, gives the trainer: only
// the first Parquet or Arrow file loads it (arrow_rows.cpp), so that jobs
// without one need no pyarrow and map none of its 60 MB.
class ArrowTable {
 public:
  virtual ~ArrowTable() = default;

  virtual int64_t num_rows() const = 0;

  // Row `index` as an object; from any thread. Lists are arrays and structs
  // objects without their null fields, as TRL drops those of tabular files; a
  // dictionary's values are what they stand for; a value of a type that JSON has
  // not (a time, bytes, a map) is a binary one. Throws std::runtime_error: the
  // file is damaged there.
  virtual nlohmann::ordered_json Row(int64_t index) const = 0;

  // The type of a column as Arrow writes it; "" when there is no such column.
  virtual std::string ColumnType(const std::string& column) const = 0;
};

// The module's one function: opens a Parquet file, or Arrow's IPC file or
// stream. Throws std::runtime_error, or std::invalid_argument when two columns have
// one name.
using OpenArrowTableFunction = ArrowTable* (*)(const std::string& path);
inline constexpr char kOpenArrowTable[] = "LigerOpenArrowTable";

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_DATA_ARROW_MODULE_H_
