#include "worker/trainer/gguf/gguf_file.h"

#include <charconv>
#include <cstring>
#include <limits>
#include <system_error>
#include <utility>

#include "worker/trainer/error.h"
#include "worker/trainer/gguf/gguf_parser.h"
#include "worker/trainer/text/unicode.h"

namespace liger::trainer {

int64_t GgufTensor::numel() const {
  int64_t product = 1;
  for (const int64_t size : shape) product *= size;
  return product;
}

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
  throw GgufFailure(path(), it == values_.end() ? 0 : it->second.at, key + " " + what, action);
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
    throw GgufFailure(path(), at, key + " holds a text that is not UTF-8",
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
