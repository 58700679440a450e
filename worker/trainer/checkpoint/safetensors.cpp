#include "worker/trainer/checkpoint/safetensors.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "worker/trainer/checkpoint/safetensors_header.h"
#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

TrainerError CannotRead(const std::string& path) {
  return ConfigError("cannot read " + path + ": " + std::strerror(errno),
                     "Check that the model folder is complete and readable by the worker.")
      .File(path);
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
  const Descriptor fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status;
  if (fd.get() < 0 || fstat(fd.get(), &status) != 0) throw CannotRead(path);
  std::shared_ptr<SafetensorsFile> file(new SafetensorsFile);
  file->path_ = path;
  if (status.st_size > 0) {
    void* map = mmap(nullptr, status.st_size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
    if (map == MAP_FAILED) throw CannotRead(path);
    file->map_ = static_cast<char*>(map);
    file->map_bytes_ = status.st_size;
  }
  SafetensorsHeader header =
      ParseSafetensorsHeader(path, {file->map_, static_cast<size_t>(file->map_bytes_)});
  file->data_start_ = header.data_start;
  file->tensors_ = std::move(header.tensors);
  file->metadata_ = std::move(header.metadata);
  return file;
}

SafetensorsFile::~SafetensorsFile() {
  if (map_ != nullptr) munmap(map_, map_bytes_);
}

at::Tensor SafetensorsFile::View(const std::string& name) const {
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
