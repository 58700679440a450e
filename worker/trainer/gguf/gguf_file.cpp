#include "worker/trainer/gguf/gguf_file.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <limits>
#include <utility>

#include "worker/trainer/error.h"
#include "worker/trainer/text/unicode.h"

namespace liger::trainer {
namespace {

static_assert(std::endian::native == std::endian::little, "values are read as they lie");

// Numbers of metadata value types.
enum ValueType : uint32_t {
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
constexpr uint64_t kValueBytes[kNumValueTypes] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

constexpr uint64_t kMinKeyValueBytes = 8 + 4 + 1;        // an empty key and a byte
constexpr uint64_t kMinTensorBytes = 8 + 4 + 8 + 4 + 8;  // an empty name and one dimension
constexpr uint32_t kMaxDimensions = 4;
constexpr uint64_t kDefaultAlignment = 32, kMaxAlignment = 1 << 20;
constexpr char kAgain[] = "Download or copy the file again and compare its checksum.";

struct Layout {
  GgmlType type;
  uint64_t block_values, block_bytes;
};
constexpr Layout kLayouts[] = {
    {GgmlType::kF32, 1, 4},    {GgmlType::kF16, 1, 2},    {GgmlType::kBF16, 1, 2},
    {GgmlType::kQ4_0, 32, 18}, {GgmlType::kQ4_1, 32, 20}, {GgmlType::kQ8_0, 32, 34},
    {GgmlType::kQ6_K, 256, 210},
};

// ggml's names of the other types, for messages.
constexpr std::pair<uint32_t, const char*> kOtherTypes[] = {
    {6, "Q5_0"},   {7, "Q5_1"},    {9, "Q8_1"},   {10, "Q2_K"},    {11, "Q3_K"},   {12, "Q4_K"},
    {13, "Q5_K"},  {15, "Q8_K"},  {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"},
    {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"}, {22, "IQ2_S"},   {23, "IQ4_XS"}, {24, "I8"},
    {25, "I16"},   {26, "I32"},    {27, "I64"},   {28, "F64"},     {29, "IQ1_M"},  {34, "TQ1_0"},
    {35, "TQ2_0"}, {39, "MXFP4"},
};

// "ggml type 12 (Q4_K)"
std::string TypeName(uint32_t number) {
  std::string name = "ggml type " + std::to_string(number);
  for (const auto& [known, text] : kOtherTypes) {
    if (known == number) name += " (" + std::string(text) + ")";
  }
  return name;
}

template <typename T>
T ReadAt(std::string_view bytes, uint64_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

TrainerError Failure(const std::string& path, uint64_t at, const std::string& what,
                     const std::string& action = kAgain) {
  return ConfigError(path + ": byte " + std::to_string(at) + ": " + what, action).File(path);
}

}  // namespace

int64_t GgufTensor::numel() const {
  int64_t product = 1;
  for (const int64_t size : shape) product *= size;
  return product;
}

// Walks the file once, from front to back.
class GgufParser {
 public:
  explicit GgufParser(GgufFile& file) : file_(file), bytes_(file.file_->bytes()) {}

  void Parse() {
    if (!bytes_.starts_with("GGUF")) {
      throw Failure(file_.path(), 0, "does not begin with GGUF", "Name a .gguf file.");
    }
    at_ = 4;
    const uint32_t version = Read<uint32_t>("the version");
    if (version != 2 && version != 3) {
      throw Failure(file_.path(), 4,
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

 private:
  uint64_t left() const { return bytes_.size() - at_; }

  void Require(uint64_t count, const std::string& what) const {
    if (count <= left()) return;
    throw Failure(file_.path(), at_,
                  what + " takes " + std::to_string(count) + " bytes, and the file has " +
                      std::to_string(left()) + " more");
  }

  template <typename T>
  T Read(const std::string& what) {
    Require(sizeof(T), what);
    const T value = ReadAt<T>(bytes_, at_);
    at_ += sizeof(T);
    return value;
  }

  // Of things that take at least `least` bytes each.
  uint64_t ReadCount(const std::string& what, uint64_t least) {
    const uint64_t at = at_;
    const uint64_t count = Read<uint64_t>(what);
    if (count <= left() / least) return count;
    throw Failure(file_.path(), at,
                  what + " is " + std::to_string(count) + ", more than the file can hold");
  }

  std::string_view ReadText(const std::string& what) {
    const uint64_t length = ReadCount("the length of " + what, 1);
    const std::string_view text = bytes_.substr(at_, length);
    at_ += length;
    return text;
  }

  std::string ReadName(const std::string& what) {
    const uint64_t at = at_;
    const std::string_view name = ReadText(what);
    if (!unicode::IsValidUtf8(name)) throw Failure(file_.path(), at, what + " is not UTF-8");
    return std::string(name);
  }

  void ReadValue() {
    const uint64_t at = at_;
    const std::string key = ReadName("a key");
    GgufFile::Value value;
    value.type = ReadType(key);
    if (value.type == kArray) {
      value.array = true;
      value.type = ReadType(key);
      if (value.type == kArray) {
        throw Failure(file_.path(), at_ - 4, key + " is an array of arrays");
      }
      value.count =
          ReadCount("the length of " + key, std::max<uint64_t>(kValueBytes[value.type], 1));
    }
    value.at = at_;
    if (value.type == kString) {
      for (uint64_t i = 0; i < value.count; ++i) ReadText(key);
    } else {
      Require(value.count * kValueBytes[value.type], key);
      at_ += value.count * kValueBytes[value.type];
    }
    if (!file_.values_.emplace(key, value).second) {
      throw Failure(file_.path(), at, "key " + key + " is there twice");
    }
  }

  uint32_t ReadType(const std::string& key) {
    const uint64_t at = at_;
    const uint32_t type = Read<uint32_t>("the type of " + key);
    if (type < kNumValueTypes) return type;
    throw Failure(file_.path(), at,
                  key + " is of type " + std::to_string(type) + ", which GGUF does not have");
  }

  void ReadTensor() {
    const uint64_t at = at_;
    GgufTensor tensor;
    tensor.name = ReadName("a tensor's name");
    const uint32_t dimensions = Read<uint32_t>("the number of dimensions of " + tensor.name);
    if (dimensions == 0 || dimensions > kMaxDimensions) {
      throw Failure(file_.path(), at_ - 4,
                    tensor.name + " has " + std::to_string(dimensions) + " dimensions");
    }
    for (uint32_t i = 0; i < dimensions; ++i) {
      const uint64_t size = Read<uint64_t>("a dimension of " + tensor.name);
      if (size == 0 || size > uint64_t{1} << 48) {
        throw Failure(file_.path(), at_ - 8,
                      tensor.name + " has a dimension of " + std::to_string(size));
      }
      tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(size));
    }
    ReadTensorType(tensor);
    tensor.begin = Read<uint64_t>("the offset of " + tensor.name);
    const std::string name = tensor.name;
    if (!file_.tensors_.emplace(name, std::move(tensor)).second) {
      throw Failure(file_.path(), at, "tensor " + name + " is there twice");
    }
  }

  void ReadTensorType(GgufTensor& tensor) {
    const uint64_t at = at_;
    const uint32_t number = Read<uint32_t>("the type of " + tensor.name);
    const auto* layout = std::find_if(
        std::begin(kLayouts), std::end(kLayouts),
        [number](const Layout& known) { return static_cast<uint32_t>(known.type) == number; });
    if (layout == std::end(kLayouts)) {
      throw Failure(
          file_.path(), at,
          tensor.name + " is of " + TypeName(number) + ", which is not implemented",
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
      throw Failure(file_.path(), at,
                    "rows of " + tensor.name + " are of " + std::to_string(tensor.shape.back()) +
                        " values, not of whole blocks of " + std::to_string(layout->block_values));
    }
    overflow |=
        __builtin_mul_overflow(values / layout->block_values, layout->block_bytes, &tensor.bytes);
    // More than all of the file is caught here too, so that sums cannot overflow.
    if (overflow || tensor.bytes > bytes_.size()) {
      throw Failure(file_.path(), at, tensor.name + " is larger than the file");
    }
  }

  // Offsets count from the end of the header, aligned.
  void PlaceTensors() {
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
        throw Failure(file_.path(), start,
                      "tensor " + name + " of " + std::to_string(tensor.bytes) +
                          " bytes at offset " + std::to_string(tensor.begin) +
                          (inside ? " is not aligned to " + std::to_string(alignment) + " bytes"
                                  : " ends behind the file's end"));
      }
      tensor.begin += start;
    }
  }

  GgufFile& file_;
  const std::string_view bytes_;
  uint64_t at_ = 0;
};

std::shared_ptr<const GgufFile> GgufFile::Open(const std::string& path) {
  std::unique_ptr<const MappedFile> mapped;
  try {
    mapped = std::make_unique<const MappedFile>(path);
  } catch (const std::system_error& error) {
    throw ConfigError("cannot read " + path + ": " + error.code().message(), "Check the path.")
        .File(path);
  }
  std::shared_ptr<GgufFile> file(new GgufFile(std::move(mapped)));
  GgufParser(*file).Parse();
  return file;
}

std::string_view GgufFile::Data(const GgufTensor& tensor) const {
  file_->RequireWhole();
  return file_->bytes().substr(tensor.begin, tensor.bytes);
}

void GgufFile::FailAt(const std::string& key, const std::string& what,
                      const std::string& action) const {
  const auto it = values_.find(key);
  throw Failure(path(), it == values_.end() ? 0 : it->second.at, key + " " + what, action);
}

const GgufFile::Value* GgufFile::Find(const std::string& key, bool array) const {
  const auto it = values_.find(key);
  if (it == values_.end()) return nullptr;
  if (it->second.array != array) FailAt(key, array ? "is not an array" : "is an array");
  return &it->second;
}

int64_t GgufFile::IntegerAt(const std::string& key, uint32_t type, uint64_t at) const {
  const std::string_view bytes = file_->bytes();
  switch (type) {
    case kUint8:
      return ReadAt<uint8_t>(bytes, at);
    case kInt8:
      return ReadAt<int8_t>(bytes, at);
    case kUint16:
      return ReadAt<uint16_t>(bytes, at);
    case kInt16:
      return ReadAt<int16_t>(bytes, at);
    case kUint32:
      return ReadAt<uint32_t>(bytes, at);
    case kInt32:
      return ReadAt<int32_t>(bytes, at);
    case kInt64:
      return ReadAt<int64_t>(bytes, at);
    case kUint64: {
      const uint64_t value = ReadAt<uint64_t>(bytes, at);
      if (value <= uint64_t(std::numeric_limits<int64_t>::max())) return int64_t(value);
      break;
    }
    default:
      break;
  }
  FailAt(key, "is not an integer below 2^63");
}

std::optional<int64_t> GgufFile::Integer(const std::string& key) const {
  const Value* value = Find(key, /*array=*/false);
  if (value == nullptr) return std::nullopt;
  const int64_t integer = IntegerAt(key, value->type, value->at);
  if (integer < 0) FailAt(key, "is negative");
  return integer;
}

std::optional<double> GgufFile::Number(const std::string& key) const {
  const Value* value = Find(key, /*array=*/false);
  if (value == nullptr) return std::nullopt;
  if (value->type == kFloat64) return ReadAt<double>(file_->bytes(), value->at);
  if (value->type != kFloat32) return static_cast<double>(IntegerAt(key, value->type, value->at));
  char text[32];
  const auto end =
      std::to_chars(text, text + sizeof(text), ReadAt<float>(file_->bytes(), value->at)).ptr;
  double number = 0;
  std::from_chars(text, end, number);
  return number;
}

std::optional<bool> GgufFile::Bool(const std::string& key) const {
  const Value* value = Find(key, /*array=*/false);
  if (value == nullptr) return std::nullopt;
  if (value->type != kBool) FailAt(key, "is not true or false");
  return ReadAt<uint8_t>(file_->bytes(), value->at) != 0;
}

std::string GgufFile::StringAt(const std::string& key, uint64_t at) const {
  const std::string_view text = file_->bytes().substr(at + 8, ReadAt<uint64_t>(file_->bytes(), at));
  if (!unicode::IsValidUtf8(text)) {
    throw Failure(path(), at, key + " holds a text that is not UTF-8",
                  "Convert the model to GGUF again.");
  }
  return std::string(text);
}

std::optional<std::string> GgufFile::String(const std::string& key) const {
  const Value* value = Find(key, /*array=*/false);
  if (value == nullptr) return std::nullopt;
  if (value->type != kString) FailAt(key, "is not a text");
  return StringAt(key, value->at);
}

std::vector<std::string> GgufFile::Strings(const std::string& key) const {
  const Value* value = Find(key, /*array=*/true);
  if (value == nullptr) return {};
  if (value->type != kString) FailAt(key, "is not a list of texts");
  std::vector<std::string> strings;
  uint64_t at = value->at;
  for (uint64_t i = 0; i < value->count; ++i) {
    strings.push_back(StringAt(key, at));
    at += 8 + strings.back().size();
  }
  return strings;
}

std::vector<float> GgufFile::Floats(const std::string& key) const {
  const Value* value = Find(key, /*array=*/true);
  if (value == nullptr) return {};
  if (value->type != kFloat32) FailAt(key, "is not a list of fp32 numbers");
  std::vector<float> floats(value->count);
  std::memcpy(floats.data(), file_->bytes().data() + value->at, value->count * sizeof(float));
  return floats;
}

std::vector<int64_t> GgufFile::Integers(const std::string& key) const {
  const Value* value = Find(key, /*array=*/true);
  if (value == nullptr) return {};
  if (value->type == kString) FailAt(key, "is not a list of integers");
  std::vector<int64_t> integers;
  for (uint64_t i = 0; i < value->count; ++i) {
    integers.push_back(IntegerAt(key, value->type, value->at + i * kValueBytes[value->type]));
  }
  return integers;
}

}  // namespace liger::trainer
