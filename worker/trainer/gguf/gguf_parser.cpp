#include "worker/trainer/gguf/gguf_parser.h"

#include <algorithm>
#include <utility>

#include "worker/trainer/text/unicode.h"

namespace liger::trainer {
namespace {

constexpr uint64_t kMinKeyValueBytes = 8 + 4 + 1;        // an empty key and a byte
constexpr uint64_t kMinTensorBytes = 8 + 4 + 8 + 4 + 8;  // an empty name and one dimension
constexpr uint32_t kMaxDimensions = 4;
constexpr uint64_t kDefaultAlignment = 32, kMaxAlignment = 1 << 20;

struct Layout {
  GgmlType type;
  uint64_t block_values, block_bytes;
};
constexpr Layout kLayouts[] = {
    {GgmlType::kF32, 1, 4},      {GgmlType::kF16, 1, 2},    {GgmlType::kBF16, 1, 2},
    {GgmlType::kQ4_0, 32, 18},   {GgmlType::kQ4_1, 32, 20}, {GgmlType::kQ8_0, 32, 34},
    {GgmlType::kQ6_K, 256, 210},
};

// ggml's names of the other types, for messages.
constexpr std::pair<uint32_t, const char*> kOtherTypes[] = {
    {6, "Q5_0"},     {7, "Q5_1"},   {9, "Q8_1"},    {10, "Q2_K"},    {11, "Q3_K"},
    {12, "Q4_K"},    {13, "Q5_K"},  {15, "Q8_K"},   {16, "IQ2_XXS"}, {17, "IQ2_XS"},
    {18, "IQ3_XXS"}, {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"},   {22, "IQ2_S"},
    {23, "IQ4_XS"},  {24, "I8"},    {25, "I16"},    {26, "I32"},     {27, "I64"},
    {28, "F64"},     {29, "IQ1_M"}, {34, "TQ1_0"},  {35, "TQ2_0"},   {39, "MXFP4"},
};

// "ggml type 12 (Q4_K)"
std::string TypeName(uint32_t number) {
  std::string name = "ggml type " + std::to_string(number);
  for (const auto& [known, text] : kOtherTypes) {
    if (known == number) name += " (" + std::string(text) + ")";
  }
  return name;
}

}  // namespace

TrainerError GgufFailure(const std::string& path, uint64_t at, const std::string& what,
                         const std::string& action) {
  return ConfigError(path + ": byte " + std::to_string(at) + ": " + what, action).File(path);
}

GgufParser::GgufParser(GgufFile& file) : file_(file), bytes_(file.file_->bytes()) {}

void GgufParser::Parse() {
  if (!bytes_.starts_with("GGUF")) {
    throw GgufFailure(file_.path(), 0, "does not begin with GGUF", "Name a .gguf file.");
  }
  at_ = 4;
  const uint32_t version = Read<uint32_t>("the version");
  if (version != 2 && version != 3) {
    throw GgufFailure(file_.path(), 4,
                      "GGUF version " + std::to_string(version) +
                          (version >> 24 != 0 ? " (a big-endian file?)" : ""),
                      "Use a little-endian file of version 2 or 3.");
  }
  const uint64_t tensors = ReadCount("the number of tensors", kMinTensorBytes);
  const uint64_t values = ReadCount("the number of metadata values", kMinKeyValueBytes);
  for (uint64_t i = 0; i < values; ++i) ReadValue();
  for (uint64_t i = 0; i < tensors; ++i) ReadTensor();
  PlaceTensors();
}

void GgufParser::Require(uint64_t count, const std::string& what) const {
  if (count <= left()) return;
  throw GgufFailure(file_.path(), at_,
                    what + " takes " + std::to_string(count) + " bytes, and the file has " +
                        std::to_string(left()) + " more");
}

template <typename T>
T GgufParser::Read(const std::string& what) {
  Require(sizeof(T), what);
  const T value = ReadAt<T>(bytes_, at_);
  at_ += sizeof(T);
  return value;
}

uint64_t GgufParser::ReadCount(const std::string& what, uint64_t least) {
  const uint64_t at = at_;
  const uint64_t count = Read<uint64_t>(what);
  if (count <= left() / least) return count;
  throw GgufFailure(file_.path(), at,
                    what + " is " + std::to_string(count) + ", more than the file can hold");
}

std::string_view GgufParser::ReadText(const std::string& what) {
  const uint64_t length = ReadCount("the length of " + what, 1);
  const std::string_view text = bytes_.substr(at_, length);
  at_ += length;
  return text;
}

std::string GgufParser::ReadName(const std::string& what) {
  const uint64_t at = at_;
  const std::string_view name = ReadText(what);
  if (!unicode::IsValidUtf8(name)) throw GgufFailure(file_.path(), at, what + " is not UTF-8");
  return std::string(name);
}

void GgufParser::ReadValue() {
  const uint64_t at = at_;
  const std::string key = ReadName("a key");
  GgufFile::Value value;
  value.type = ReadType(key);
  if (value.type == kArray) {
    value.array = true;
    value.type = ReadType(key);
    if (value.type == kArray) {
      throw GgufFailure(file_.path(), at_ - 4, key + " is an array of arrays");
    }
    value.count = ReadCount("the length of " + key, std::max<uint64_t>(kValueBytes[value.type], 1));
  }
  value.at = at_;
  if (value.type == kString) {
    for (uint64_t i = 0; i < value.count; ++i) ReadText(key);
  } else {
    Require(value.count * kValueBytes[value.type], key);
    at_ += value.count * kValueBytes[value.type];
  }
  if (!file_.values_.emplace(key, value).second) {
    throw GgufFailure(file_.path(), at, "key " + key + " is there twice");
  }
}

uint32_t GgufParser::ReadType(const std::string& key) {
  const uint64_t at = at_;
  const uint32_t type = Read<uint32_t>("the type of " + key);
  if (type < kNumValueTypes) return type;
  throw GgufFailure(file_.path(), at,
                    key + " is of type " + std::to_string(type) + ", which GGUF does not have");
}

void GgufParser::ReadTensor() {
  const uint64_t at = at_;
  GgufTensor tensor;
  tensor.name = ReadName("a tensor's name");
  const uint32_t dimensions = Read<uint32_t>("the number of dimensions of " + tensor.name);
  if (dimensions == 0 || dimensions > kMaxDimensions) {
    throw GgufFailure(file_.path(), at_ - 4,
                      tensor.name + " has " + std::to_string(dimensions) + " dimensions");
  }
  for (uint32_t i = 0; i < dimensions; ++i) {
    const uint64_t size = Read<uint64_t>("a dimension of " + tensor.name);
    if (size == 0 || size > uint64_t{1} << 48) {
      throw GgufFailure(file_.path(), at_ - 8,
                        tensor.name + " has a dimension of " + std::to_string(size));
    }
    tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(size));
  }
  ReadTensorType(tensor);
  tensor.begin = Read<uint64_t>("the offset of " + tensor.name);
  const std::string name = tensor.name;
  if (!file_.tensors_.emplace(name, std::move(tensor)).second) {
    throw GgufFailure(file_.path(), at, "tensor " + name + " is there twice");
  }
}

void GgufParser::ReadTensorType(GgufTensor& tensor) {
  const uint64_t at = at_;
  const uint32_t number = Read<uint32_t>("the type of " + tensor.name);
  const auto* layout = std::find_if(
      std::begin(kLayouts), std::end(kLayouts),
      [number](const Layout& known) { return static_cast<uint32_t>(known.type) == number; });
  if (layout == std::end(kLayouts)) {
    throw GgufFailure(
        file_.path(), at, tensor.name + " is of " + TypeName(number) + ", which is not implemented",
        "Use a GGUF file of F32, F16, BF16, Q8_0, Q6_K, Q4_0 and Q4_1 tensors, or the model's "
        "Hugging Face folder.");
  }
  tensor.type = layout->type;
  uint64_t values = 1;
  bool overflow = false;
  for (const int64_t size : tensor.shape) {
    overflow |= __builtin_mul_overflow(values, static_cast<uint64_t>(size), &values);
  }
  if (static_cast<uint64_t>(tensor.shape.back()) % layout->block_values != 0) {
    throw GgufFailure(file_.path(), at,
                      "rows of " + tensor.name + " are of " + std::to_string(tensor.shape.back()) +
                          " values, not of whole blocks of " +
                          std::to_string(layout->block_values));
  }
  overflow |=
      __builtin_mul_overflow(values / layout->block_values, layout->block_bytes, &tensor.bytes);
  // More than all of the file is caught here too, so that sums cannot overflow.
  if (overflow || tensor.bytes > bytes_.size()) {
    throw GgufFailure(file_.path(), at, tensor.name + " is larger than the file");
  }
}

void GgufParser::PlaceTensors() {
  const uint64_t alignment =
      static_cast<uint64_t>(file_.Integer("general.alignment").value_or(kDefaultAlignment));
  if (!std::has_single_bit(alignment) || alignment > kMaxAlignment) {
    file_.FailAt("general.alignment", "is " + std::to_string(alignment) +
                                          ", not a power of 2 up to " +
                                          std::to_string(kMaxAlignment));
  }
  const uint64_t start = (at_ + alignment - 1) / alignment * alignment;
  for (auto& [name, tensor] : file_.tensors_) {
    const bool inside = start <= bytes_.size() && tensor.begin <= bytes_.size() - start &&
                        tensor.bytes <= bytes_.size() - start - tensor.begin;
    if (!inside || tensor.begin % alignment != 0) {
      throw GgufFailure(file_.path(), start,
                        "tensor " + name + " of " + std::to_string(tensor.bytes) +
                            " bytes at offset " + std::to_string(tensor.begin) +
                            (inside ? " is not aligned to " + std::to_string(alignment) + " bytes"
                                    : " ends behind the file's end"));
    }
    tensor.begin += start;
  }
}

}  // namespace liger::trainer
