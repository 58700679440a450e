#ifndef LIGER_TESTS_UNIT_GGUF_GGUF_BUILDER_H_
#define LIGER_TESTS_UNIT_GGUF_GGUF_BUILDER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace liger::trainer {

// Bytes of a GGUF file, whatever they say.
class GgufBuilder {
 public:
  GgufBuilder& Uint(const std::string& key, uint32_t value);
  GgufBuilder& Float(const std::string& key, float value);
  GgufBuilder& Bool(const std::string& key, bool value);
  GgufBuilder& Text(const std::string& key, std::string_view value);
  GgufBuilder& Texts(const std::string& key, const std::vector<std::string>& values);
  GgufBuilder& Floats(const std::string& key, const std::vector<float>& values);
  GgufBuilder& Ints(const std::string& key, const std::vector<int32_t>& values);
  // A key with any type and bytes.
  GgufBuilder& Raw(const std::string& key, uint32_t type, const std::string& bytes);
  // `shape` as PyTorch has it.
  GgufBuilder& Tensor(const std::string& name, const std::vector<uint64_t>& shape, uint32_t type,
                      const std::string& data);
  // fp32 values, all `value`.
  GgufBuilder& Constant(const std::string& name, const std::vector<uint64_t>& shape, float value);

  std::string Bytes(uint32_t version = 3) const;

 private:
  std::string values_, infos_, data_;
  uint64_t num_values_ = 0, num_tensors_ = 0;
};

// The bytes of an integer or float as the format has them.
template <typename T>
std::string Little(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof(T)};
}

// A Llama of one layer, of hidden size 32, with `tokens` rows of embeddings.
GgufBuilder SmallLlama(uint64_t tokens);

}  // namespace liger::trainer

#endif  // LIGER_TESTS_UNIT_GGUF_GGUF_BUILDER_H_
