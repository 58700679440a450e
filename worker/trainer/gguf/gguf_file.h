#ifndef LIGER_WORKER_TRAINER_GGUF_GGUF_FILE_H_
#define LIGER_WORKER_TRAINER_GGUF_GGUF_FILE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "worker/trainer/mapped_file.h"

namespace liger::trainer {

// How the values of a tensor are stored; numbers as in ggml. Blocks are of 32
// values along the last dimension (Q6_K: 256), with one or two fp16 numbers of their own.
enum class GgmlType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,  // d, 16 bytes: (q - 8) d
  kQ4_1 = 3,  // d, m, 16 bytes: q d + m
  kQ8_0 = 8,  // d, 32 bytes: q d
  kQ6_K = 14,  // 128 bytes of low and 64 of high bits, 16 scales, d: (q - 32) scale d
  kBF16 = 30,
};

struct GgufTensor {
  std::string name;
  GgmlType type = GgmlType::kF32;
  std::vector<int64_t> shape;  // as PyTorch has it: the file's dimensions reversed
  uint64_t begin = 0;          // bytes from the start of the file
  uint64_t bytes = 0;

  int64_t numel() const;
};

// One memory-mapped GGUF file (version 2 or 3, little-endian), validated when
// opened: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. What it
// allocates is bounded by the size of the file.
class GgufFile {
 public:
  // Throws TrainerError (CONFIG) with the file, the byte and what is wrong there.
  static std::shared_ptr<const GgufFile> Open(const std::string& path);
  GgufFile(const GgufFile&) = delete;
  GgufFile& operator=(const GgufFile&) = delete;

  const std::string& path() const { return file_->path(); }
  // By name.
  const std::map<std::string, GgufTensor>& tensors() const { return tensors_; }
  // Throws TrainerError (STORAGE) when the file has been cut since it was opened.
  std::string_view Data(const GgufTensor& tensor) const;

  // Metadata by key; nullopt and empty when absent. A value of another type is an
  // error that names key and byte.
  bool Has(const std::string& key) const { return values_.contains(key); }
  std::optional<int64_t> Integer(const std::string& key) const;  // at least 0
  // The decimal number that an fp32 value stands for: 1e-05, not 9.99999975e-06.
  std::optional<double> Number(const std::string& key) const;
  std::optional<bool> Bool(const std::string& key) const;
  std::optional<std::string> String(const std::string& key) const;  // UTF-8
  std::vector<std::string> Strings(const std::string& key) const;   // UTF-8
  std::vector<float> Floats(const std::string& key) const;
  std::vector<int64_t> Integers(const std::string& key) const;

  // Of something wrong with the value of `key`, which need not be there.
  [[noreturn]] void FailAt(const std::string& key, const std::string& what,
                           const std::string& action = "Convert the model to GGUF again.") const;

 private:
  friend class GgufParser;
  struct Value {
    uint32_t type = 0;  // of the value, or of an array's items
    bool array = false;
    uint64_t count = 1;  // items
    uint64_t at = 0;     // byte of the first one
  };
  explicit GgufFile(std::unique_ptr<const MappedFile> file) : file_(std::move(file)) {}

  const Value* Find(const std::string& key, bool array) const;
  int64_t IntegerAt(const std::string& key, uint32_t type, uint64_t at) const;
  std::string StringAt(const std::string& key, uint64_t at) const;

  std::unique_ptr<const MappedFile> file_;
  std::map<std::string, Value> values_;
  std::map<std::string, GgufTensor> tensors_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_GGUF_GGUF_FILE_H_
