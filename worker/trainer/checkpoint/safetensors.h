#ifndef LIGER_WORKER_TRAINER_CHECKPOINT_SAFETENSORS_H_
#define LIGER_WORKER_TRAINER_CHECKPOINT_SAFETENSORS_H_

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "worker/trainer/mapped_file.h"

// The safetensors format: u64 little-endian header length, a JSON header
//   {"name": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [begin, end]}, ...,
//    "__metadata__": {"key": "value"}}
// padded with spaces, then the tensors' bytes, row-major and little-endian,
// which the offsets tile without gap or overlap.
// https://huggingface.co/docs/safetensors
namespace liger::trainer {

inline constexpr int64_t kMaxSafetensorsHeader = 100'000'000;  // the format's own limit

struct TensorInfo {
  std::string name;
  at::ScalarType dtype = at::kFloat;
  std::vector<int64_t> shape;
  int64_t begin = 0;  // byte offsets from the start of the data section
  int64_t end = 0;

  int64_t bytes() const { return end - begin; }
};

// "[2, 3]"
std::string ShapeString(const std::vector<int64_t>& shape);

// One memory-mapped safetensors file, fully validated when opened.
class SafetensorsFile {
 public:
  // Throws TrainerError (CONFIG) with the file and what is wrong with it:
  // unreadable, truncated, header over 100 MB or not JSON (with the byte), an
  // unknown dtype, a size that does not match the shape, offsets that overlap,
  // leave holes or lie outside of the file, a name given twice.
  static std::shared_ptr<const SafetensorsFile> Open(const std::string& path);
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::string& path() const { return file_->path(); }
  int64_t file_bytes() const { return static_cast<int64_t>(file_->bytes().size()); }
  // By name.
  const std::map<std::string, TensorInfo>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  // The tensor over the map, without a copy; keep this file alive meanwhile.
  // Read only: writing to it is a fault. A tensor that the file does not align
  // to its element size is copied. Throws TrainerError (STORAGE) when the file
  // has been cut since it was opened. REQUIRES: tensors() has the name.
  at::Tensor View(const std::string& name) const;

  // Copies into `target` (any dtype and device, same shape), converting on the
  // way, then lets the kernel drop the pages read. REQUIRES: as View.
  void CopyInto(const std::string& name, at::Tensor target) const;

 private:
  explicit SafetensorsFile(std::unique_ptr<const MappedFile> file);
  const char* data(const TensorInfo& info) const {
    return file_->bytes().data() + data_start_ + info.begin;
  }

  const std::unique_ptr<const MappedFile> file_;
  int64_t data_start_ = 0;
  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string, std::string> metadata_;
};

// A tensor to write. Any device and layout; converted and made contiguous one
// at a time.
struct NamedTensor {
  std::string name;
  at::Tensor tensor;
  // Gives what is written instead, of the same shape, when its turn comes; so that
  // merged weights do not exist all at once. None: the tensor itself.
  std::function<at::Tensor()> make = nullptr;

  at::Tensor Value() const { return make ? make() : tensor; }
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_CHECKPOINT_SAFETENSORS_H_
