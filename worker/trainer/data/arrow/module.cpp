// liger_arrow.so: see arrow_module.h.
#include <arrow/api.h>
#include <arrow/io/file.h>
#include <arrow/ipc/reader.h>
#include <parquet/arrow/reader.h>
#include <parquet/exception.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "worker/trainer/data/arrow/value.h"
#include "worker/trainer/data/arrow_module.h"

namespace liger::trainer {
namespace {

using TablePointer = std::shared_ptr<arrow::Table>;

void Require(const arrow::Status& status) {
  if (!status.ok()) throw std::runtime_error(status.ToString());
}

template <typename T>
T Require(arrow::Result<T> result) {
  Require(result.status());
  return *std::move(result);
}

// What Parquet throws itself as what the trainer expects.
template <typename Work>
auto WithPlainErrors(Work work) {
  try {
    return work();
  } catch (const parquet::ParquetException& e) {
    throw std::runtime_error(e.what());
  }
}

// A file in parts that are read one at a time.
class Parts {
 public:
  virtual ~Parts() = default;
  virtual std::shared_ptr<arrow::Schema> schema() const = 0;
  virtual std::vector<int64_t> Rows() const = 0;  // of each part
  virtual TablePointer Load(int64_t part) const = 0;
};

class ParquetParts : public Parts {
 public:
  explicit ParquetParts(std::shared_ptr<arrow::io::RandomAccessFile> file)
      : reader_(Require(parquet::arrow::OpenFile(std::move(file), arrow::default_memory_pool()))) {
    Require(reader_->GetSchema(&schema_));
  }

  std::shared_ptr<arrow::Schema> schema() const override { return schema_; }
  std::vector<int64_t> Rows() const override {
    const auto metadata = reader_->parquet_reader()->metadata();
    std::vector<int64_t> rows;
    for (int i = 0; i < metadata->num_row_groups(); ++i) {
      rows.push_back(metadata->RowGroup(i)->num_rows());
    }
    return rows;
  }
  TablePointer Load(int64_t part) const override {
    return Require(reader_->ReadRowGroup(static_cast<int>(part)));
  }

 private:
  std::unique_ptr<parquet::arrow::FileReader> reader_;
  std::shared_ptr<arrow::Schema> schema_;
};

// The batches are views of the mapped file.
class BatchParts : public Parts {
 public:
  explicit BatchParts(std::shared_ptr<arrow::ipc::RecordBatchFileReader> reader)
      : schema_(reader->schema()) {
    for (int i = 0; i < reader->num_record_batches(); ++i) {
      batches_.push_back(Require(reader->ReadRecordBatch(i)));
    }
  }
  explicit BatchParts(std::shared_ptr<arrow::RecordBatchReader> reader)
      : schema_(reader->schema()) {
    while (auto batch = Require(reader->Next())) batches_.push_back(std::move(batch));
  }

  std::shared_ptr<arrow::Schema> schema() const override { return schema_; }
  std::vector<int64_t> Rows() const override {
    std::vector<int64_t> rows;
    for (const auto& batch : batches_) {
      Require(batch->Validate());  // has the values that so many rows take
      rows.push_back(batch->num_rows());
    }
    return rows;
  }
  TablePointer Load(int64_t part) const override {
    return Require(arrow::Table::FromRecordBatches({batches_.at(part)}));
  }

 private:
  std::shared_ptr<arrow::Schema> schema_;
  std::vector<std::shared_ptr<arrow::RecordBatch>> batches_;
};

std::unique_ptr<const Parts> OpenParts(const std::string& path) {
  const auto file = Require(arrow::io::MemoryMappedFile::Open(path, arrow::io::FileMode::READ));
  const auto begin = Require(file->ReadAt(0, 6));
  const std::string_view magic(reinterpret_cast<const char*>(begin->data()), begin->size());
  if (magic == "ARROW1") {
    return std::make_unique<BatchParts>(Require(arrow::ipc::RecordBatchFileReader::Open(file)));
  }
  const bool is_stream = magic.starts_with("\xFF\xFF\xFF\xFF");  // a message's first bytes
  if (is_stream || (!magic.starts_with("PAR1") && path.ends_with(".arrow"))) {
    const std::shared_ptr<arrow::RecordBatchReader> stream =
        Require(arrow::ipc::RecordBatchStreamReader::Open(file));
    return std::make_unique<BatchParts>(stream);
  }
  return std::make_unique<ParquetParts>(file);
}

class Table : public ArrowTable {
 public:
  explicit Table(const std::string& path) : parts_(OpenParts(path)), begins_({0}) {
    std::vector<std::string> names = parts_->schema()->field_names();
    std::sort(names.begin(), names.end());
    const auto twice = std::adjacent_find(names.begin(), names.end());
    if (twice != names.end()) throw std::invalid_argument("names column \"" + *twice + "\" twice");
    for (const int64_t rows : parts_->Rows()) {
      if (rows < 0) throw std::runtime_error("a part has a negative number of rows");
      begins_.push_back(begins_.back() + rows);
    }
  }

  int64_t num_rows() const override { return begins_.back(); }

  nlohmann::ordered_json Row(int64_t index) const override {
    const auto next = std::upper_bound(begins_.begin(), begins_.end(), index);
    const int64_t part = next - begins_.begin() - 1;
    const TablePointer table = Part(part);
    nlohmann::ordered_json row = nlohmann::ordered_json::object();
    for (int i = 0; i < table->num_columns(); ++i) {
      row[table->field(i)->name()] = Value(*table->column(i), index - begins_[part]);
    }
    return row;
  }

  std::string ColumnType(const std::string& column) const override {
    const auto field = parts_->schema()->GetFieldByName(column);
    return field == nullptr ? "" : field->type()->ToString();
  }

 private:
  static nlohmann::ordered_json Value(const arrow::ChunkedArray& column, int64_t index) {
    for (const auto& chunk : column.chunks()) {
      if (index < chunk->length()) return ToJson(*chunk, index);
      index -= chunk->length();
    }
    throw std::runtime_error("the file has fewer rows than it says");
  }

  // Threads read neighbouring rows, so a few parts suffice.
  TablePointer Part(int64_t part) const {
    constexpr size_t kKept = 4;
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [number, table] : kept_) {
      if (number == part) return table;
    }
    TablePointer table = WithPlainErrors([&] { return parts_->Load(part); });
    // Offsets that lead out of their buffers would be followed.
    Require(table->ValidateFull());
    kept_.emplace_back(part, table);
    if (kept_.size() > kKept) kept_.pop_front();
    return table;
  }

  const std::unique_ptr<const Parts> parts_;
  std::vector<int64_t> begins_;  // of the parts, and the end
  mutable std::mutex mutex_;
  mutable std::deque<std::pair<int64_t, TablePointer>> kept_;
};

}  // namespace
}  // namespace liger::trainer

extern "C" __attribute__((visibility("default"))) liger::trainer::ArrowTable* LigerOpenArrowTable(
    const std::string& path) {
  using namespace liger::trainer;  // NOLINT: of this file alone
  return WithPlainErrors([&] { return new Table(path); });
}
