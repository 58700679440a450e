#include "tests/unit/gguf/gguf_builder.h"

namespace liger::trainer {
namespace {

std::string Sized(std::string_view text) {
  return Little(uint64_t{text.size()}) + std::string(text);
}

template <typename T>
std::string List(uint32_t type, const std::vector<T>& values) {
  std::string bytes = Little(type) + Little(uint64_t{values.size()});
  for (const T& value : values) {
    if constexpr (std::is_same_v<T, std::string>) {
      bytes += Sized(value);
    } else {
      bytes += Little(value);
    }
  }
  return bytes;
}

}  // namespace

GgufBuilder& GgufBuilder::Raw(const std::string& key, uint32_t type, const std::string& bytes) {
  values_ += Sized(key) + Little(type) + bytes;
  ++num_values_;
  return *this;
}

GgufBuilder& GgufBuilder::Uint(const std::string& key, uint32_t value) {
  return Raw(key, 4, Little(value));
}
GgufBuilder& GgufBuilder::Float(const std::string& key, float value) {
  return Raw(key, 6, Little(value));
}
GgufBuilder& GgufBuilder::Bool(const std::string& key, bool value) {
  return Raw(key, 7, std::string(1, static_cast<char>(value)));
}
GgufBuilder& GgufBuilder::Text(const std::string& key, std::string_view value) {
  return Raw(key, 8, Sized(value));
}
GgufBuilder& GgufBuilder::Texts(const std::string& key, const std::vector<std::string>& values) {
  return Raw(key, 9, List(8, values));
}
GgufBuilder& GgufBuilder::Floats(const std::string& key, const std::vector<float>& values) {
  return Raw(key, 9, List(6, values));
}
GgufBuilder& GgufBuilder::Ints(const std::string& key, const std::vector<int32_t>& values) {
  return Raw(key, 9, List(5, values));
}

GgufBuilder& GgufBuilder::Tensor(const std::string& name, const std::vector<uint64_t>& shape,
                                 uint32_t type, const std::string& data) {
  infos_ += Sized(name) + Little(static_cast<uint32_t>(shape.size()));
  for (auto size = shape.rbegin(); size != shape.rend(); ++size) infos_ += Little(*size);
  infos_ += Little(type) + Little(uint64_t{data_.size()});
  data_ += data;
  data_.resize((data_.size() + 31) / 32 * 32);
  ++num_tensors_;
  return *this;
}

GgufBuilder& GgufBuilder::Constant(const std::string& name, const std::vector<uint64_t>& shape,
                                   float value) {
  uint64_t count = 1;
  for (const uint64_t size : shape) count *= size;
  std::string data;
  for (uint64_t i = 0; i < count; ++i) data += Little(value);
  return Tensor(name, shape, 0, data);
}

std::string GgufBuilder::Bytes(uint32_t version) const {
  std::string bytes =
      "GGUF" + Little(version) + Little(num_tensors_) + Little(num_values_) + values_ + infos_;
  bytes.resize((bytes.size() + 31) / 32 * 32);
  return bytes + data_;
}

GgufBuilder SmallLlama(uint64_t tokens) {
  GgufBuilder file;
  file.Text("general.architecture", "llama")
      .Uint("llama.block_count", 1)
      .Uint("llama.context_length", 64)
      .Uint("llama.embedding_length", 32)
      .Uint("llama.feed_forward_length", 32)
      .Uint("llama.attention.head_count", 2)
      .Float("llama.attention.layer_norm_rms_epsilon", 1e-6f)
      .Constant("token_embd.weight", {tokens, 32}, 0.25f)
      .Constant("output_norm.weight", {32}, 1);
  for (const char* name : {"attn_norm", "ffn_norm"}) {
    file.Constant(std::string("blk.0.") + name + ".weight", {32}, 1);
  }
  for (const char* name :
       {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"}) {
    file.Constant(std::string("blk.0.") + name + ".weight", {32, 32}, 0.5f);
  }
  return file;
}

}  // namespace liger::trainer
