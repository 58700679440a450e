#ifndef LIGER_WORKER_TRAINER_GGUF_GGUF_PARSER_H_
#define LIGER_WORKER_TRAINER_GGUF_GGUF_PARSER_H_

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "worker/trainer/error.h"
#include "worker/trainer/gguf/gguf_file.h"

// How a GGUF file is laid out, for the two sources of gguf_file.h.
namespace liger::trainer {

static_assert(std::endian::native == std::endian::little, "values are read as they lie");

// Numbers of metadata value types.
enum GgufValueType : uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
  kNumValueTypes
};
// Bytes of each; 0: variable.
inline constexpr uint64_t kValueBytes[kNumValueTypes] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

template <typename T>
T ReadAt(std::string_view bytes, uint64_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

// CONFIG, of byte `at` of the file.
TrainerError GgufFailure(
    const std::string& path, uint64_t at, const std::string& what,
    const std::string& action = "Download or copy the file again and compare its checksum.");

// Walks the file once, from front to back.
class GgufParser {
 public:
  explicit GgufParser(GgufFile& file);

  // Fills the file's values and tensors. Throws TrainerError (CONFIG).
  void Parse();

 private:
  uint64_t left() const { return bytes_.size() - at_; }

  void Require(uint64_t count, const std::string& what) const;
  template <typename T>
  T Read(const std::string& what);
  // Of things that take at least `least` bytes each.
  uint64_t ReadCount(const std::string& what, uint64_t least);
  std::string_view ReadText(const std::string& what);
  std::string ReadName(const std::string& what);
  void ReadValue();
  uint32_t ReadType(const std::string& key);
  void ReadTensor();
  void ReadTensorType(GgufTensor& tensor);
  // Offsets count from the end of the header, aligned.
  void PlaceTensors();

  GgufFile& file_;
  const std::string_view bytes_;
  uint64_t at_ = 0;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_GGUF_GGUF_PARSER_H_
