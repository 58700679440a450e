#include "worker/trainer/data/arrow_rows.h"

#include <dlfcn.h>

#include <algorithm>
#include <filesystem>
#include <stdexcept>
#include <system_error>

#include "worker/trainer/data/data_text.h"
#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

namespace fs = std::filesystem;

constexpr char kModule[] = "liger_arrow.so";

// Installed, the module lies beside the program; before that, where it was built.
std::string ModulePath() {
  std::error_code error;
  const fs::path beside = fs::read_symlink("/proc/self/exe", error).parent_path() / kModule;
  return fs::exists(beside, error) ? beside.string() : LIGER_ARROW_MODULE;
}

OpenArrowTableFunction LoadModule(const std::string& path) {
  void* module = dlopen(ModulePath().c_str(), RTLD_NOW | RTLD_LOCAL);
  void* open = module == nullptr ? nullptr : dlsym(module, kOpenArrowTable);
  if (open != nullptr) return reinterpret_cast<OpenArrowTableFunction>(open);
  const char* why = dlerror();
  throw ConfigError(path + ": Arrow C++, which reads Parquet and Arrow files, cannot be loaded: " +
                        (why == nullptr ? "no reason given" : why),
                    "Install the Python package pyarrow " LIGER_PYARROW_VERSION
                    " beside torch (tools/requirements.txt), or give the data as .jsonl.")
      .File(path);
}

}  // namespace

bool ArrowRows::Reads(const std::string& path) {
  if (path.ends_with(".parquet") || path.ends_with(".arrow")) return true;
  const auto file = MapDataFile(path);
  for (const char* begin : {"PAR1", "ARROW1", "\xFF\xFF\xFF\xFF"}) {
    if (file->bytes().starts_with(begin)) return true;
  }
  return false;
}

ArrowRows::ArrowRows(const std::string& path, RowLimit limit)
    : RowFile(path), file_(MapDataFile(path)) {
  static const OpenArrowTableFunction open = LoadModule(path);
  try {
    table_.reset(open(path));
  } catch (const std::invalid_argument& e) {
    throw DataError(path + ": " + e.what(), "Write it with other names of columns.").File(path);
  } catch (const std::runtime_error& e) {
    throw DataError(path + ": " + e.what(),
                    "Give a Parquet file, or one of Arrow's IPC files or streams; copy it again "
                    "if it is damaged.")
        .File(path);
  }
  size_ = table_->num_rows();
  const size_t bytes = file_->bytes().size();
  if (limit.rows > 0 && limit.bytes < bytes) {  // rows are taken to be of one length
    const double share = static_cast<double>(limit.bytes) / static_cast<double>(bytes);
    const auto rows = static_cast<int64_t>(share * static_cast<double>(size_));
    size_ = std::min(size_, std::max(rows, limit.rows));
  }
  if (size_ == 0) {
    throw DataError(path + ": the file holds no rows", "Give a file with at least one row.")
        .File(path);
  }
}

nlohmann::ordered_json ArrowRows::Parse(int64_t index) const {
  file_->RequireWhole();
  try {
    return table_->Row(index);
  } catch (const std::runtime_error& e) {
    throw Fail(index, e.what(), "Copy the file again from where it came from, or write it anew.");
  }
}

}  // namespace liger::trainer
