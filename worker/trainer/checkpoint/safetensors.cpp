#include "worker/trainer/checkpoint/safetensors.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <system_error>
#include <utility>

#include "worker/trainer/checkpoint/safetensors_header.h"
#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

std::unique_ptr<const MappedFile> Map(const std::string& path) {
  try {
    return std::make_unique<MappedFile>(path);
  } catch (const std::system_error& e) {
    throw ConfigError("cannot read " + path + ": " + e.code().message(),
                      "Check that the model folder is complete and readable by the worker.")
        .File(path);
  }
}

}  // namespace

std::string ShapeString(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    out += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return out + "]";
}

std::shared_ptr<const SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  std::shared_ptr<SafetensorsFile> file(new SafetensorsFile(Map(path)));
  SafetensorsHeader header = ParseSafetensorsHeader(path, file->file_->bytes());
  file->data_start_ = header.data_start;
  file->tensors_ = std::move(header.tensors);
  file->metadata_ = std::move(header.metadata);
  return file;
}

SafetensorsFile::SafetensorsFile(std::unique_ptr<const MappedFile> file) : file_(std::move(file)) {}

at::Tensor SafetensorsFile::View(const std::string& name) const {
  file_->RequireWhole();
  const TensorInfo& info = tensors_.at(name);
  char* bytes = const_cast<char*>(data(info));
  const auto alignment = c10::elementSize(info.dtype);
  if (info.bytes() == 0 || reinterpret_cast<uintptr_t>(bytes) % alignment != 0) {
    at::Tensor copy = at::empty(info.shape, info.dtype);
    if (info.bytes() > 0) std::memcpy(copy.data_ptr(), bytes, info.bytes());
    return copy;
  }
  return at::from_blob(bytes, info.shape, at::TensorOptions().dtype(info.dtype));
}

void SafetensorsFile::CopyInto(const std::string& name, at::Tensor target) const {
  const at::NoGradGuard no_grad;
  target.copy_(View(name));
  const TensorInfo& info = tensors_.at(name);
  // Only whole pages: a neighbour's bytes would merely be read again, but there
  // is no need to. The advice is about memory alone, so its result is not.
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t first = (reinterpret_cast<uintptr_t>(data(info)) + page - 1) / page * page;
  const uintptr_t last = (reinterpret_cast<uintptr_t>(data(info)) + info.bytes()) / page * page;
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

}  // namespace liger::trainer
