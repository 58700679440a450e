#include "worker/trainer/checkpoint/safetensors_header.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "worker/trainer/error.h"
#include "worker/trainer/json_parse.h"

namespace liger::trainer {
namespace {

using nlohmann::json;

constexpr std::array<std::pair<std::string_view, at::ScalarType>, 12> kDtypes = {{
    {"F32", at::kFloat},
    {"BF16", at::kBFloat16},
    {"F16", at::kHalf},
    {"F64", at::kDouble},
    {"I64", at::kLong},
    {"I32", at::kInt},
    {"I16", at::kShort},
    {"I8", at::kChar},
    {"U8", at::kByte},
    {"BOOL", at::kBool},
    {"F8_E4M3", at::kFloat8_e4m3fn},
    {"F8_E5M2", at::kFloat8_e5m2},
}};

constexpr char kAgain[] =
    "The file is damaged: download or copy it again and compare its checksum with the source's.";

// Everything that throws knows the file; `Fail` builds its errors.
class HeaderParser {
 public:
  HeaderParser(const std::string& path, std::string_view file) : path_(path), file_(file) {}

  SafetensorsHeader Parse() {
    const std::string_view text = HeaderText();
    header_.data_start = static_cast<int64_t>(8 + text.size());
    data_bytes_ = static_cast<int64_t>(file_.size()) - header_.data_start;
    const json parsed = ParseHeader(text);  // named: items() would outlive a temporary
    for (const auto& [name, entry] : parsed.items()) {
      if (name == "__metadata__") {
        ReadMetadata(entry);
      } else {
        ReadTensor(name, entry);
      }
    }
    CheckTiling();
    return std::move(header_);
  }

 private:
  TrainerError Fail(const std::string& what, const std::string& action = kAgain) const {
    return ConfigError(path_ + ": " + what, action).File(path_);
  }

  std::string_view HeaderText() const {
    if (file_.size() < 8) {
      throw Fail("truncated: " + std::to_string(file_.size()) +
                 " bytes, too few for a safetensors header");
    }
    uint64_t length = 0;
    for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<unsigned char>(file_[i]);
    if (length > static_cast<uint64_t>(kMaxSafetensorsHeader)) {
      throw Fail("header of " + std::to_string(length) + " bytes, over the format's limit of " +
                     std::to_string(kMaxSafetensorsHeader),
                 "Probably not a safetensors file, or a damaged one: download or copy it again.");
    }
    if (length > file_.size() - 8) {
      throw Fail("truncated: the header needs " + std::to_string(length + 8) +
                 " bytes and the file has " + std::to_string(file_.size()));
    }
    return file_.substr(8, length);
  }

  // nlohmann keeps the last of two equal keys; the format forbids them, at the
  // top and inside an entry, so they are looked for while parsing.
  json ParseHeader(std::string_view text) const {
    std::vector<std::set<std::string>> keys;
    const json::parser_callback_t find_duplicates = [&](int, json::parse_event_t event,
                                                        json& parsed) {
      if (event == json::parse_event_t::object_start) keys.emplace_back();
      if (event == json::parse_event_t::object_end) keys.pop_back();
      if (event == json::parse_event_t::key &&
          !keys.back().insert(parsed.get_ref<const std::string&>()).second) {
        throw Fail("header has \"" + parsed.get<std::string>() + "\" twice");
      }
      return true;
    };
    json parsed;
    try {
      parsed = ParseJson<json>(text, find_duplicates);
    } catch (const JsonTextError& e) {
      throw Fail("header, byte " + std::to_string(8 + e.offset() + 1) +
                 " of the file: " + e.what());
    }
    if (!parsed.is_object()) throw Fail("header is JSON but not an object");
    return parsed;
  }

  void ReadMetadata(const json& entry) {
    if (!entry.is_object()) throw Fail("header: __metadata__ is not an object");
    for (const auto& [key, value] : entry.items()) {
      if (!value.is_string()) throw Fail("header: __metadata__." + key + " is not a string");
      header_.metadata[key] = value.get<std::string>();
    }
  }

  void ReadTensor(const std::string& name, const json& entry) {
    TensorInfo info;
    info.name = name;
    if (!entry.is_object()) throw Fail("tensor " + name + ": its entry is not an object");
    info.dtype = ReadDtype(name, entry);
    info.shape = ReadSizes(name, entry, "shape");
    const std::vector<int64_t> offsets = ReadSizes(name, entry, "data_offsets");
    if (offsets.size() != 2) throw Fail("tensor " + name + ": data_offsets is not a pair");
    info.begin = offsets[0];
    info.end = offsets[1];
    if (info.begin > info.end) {
      throw Fail("tensor " + name + ": its data_offsets run backwards, " + ShapeString(offsets));
    }
    if (info.end > data_bytes_) {
      throw Fail("tensor " + name + " ends at byte " + std::to_string(info.end) +
                 " of the data, and the file holds only " + std::to_string(data_bytes_) +
                 " (truncated, or offsets out of range)");
    }
    CheckSize(info);
    header_.tensors.emplace(name, std::move(info));
  }

  at::ScalarType ReadDtype(const std::string& name, const json& entry) const {
    const auto it = entry.find("dtype");
    if (it == entry.end() || !it->is_string()) throw Fail("tensor " + name + ": no dtype");
    const std::string& dtype = it->get_ref<const std::string&>();
    const std::optional<at::ScalarType> found = SafetensorsDtype(dtype);
    if (!found.has_value()) {
      throw Fail("tensor " + name + ": unknown dtype \"" + dtype + "\"",
                 "Weights can be F32, BF16 or F16; convert the checkpoint to one of them.");
    }
    return *found;
  }

  std::vector<int64_t> ReadSizes(const std::string& name, const json& entry,
                                 const char* key) const {
    const auto it = entry.find(key);
    if (it == entry.end() || !it->is_array()) {
      throw Fail("tensor " + name + ": " + key + " is absent or not a list");
    }
    std::vector<int64_t> sizes;
    for (const json& value : *it) {
      if (!value.is_number_unsigned() ||
          value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        throw Fail("tensor " + name + ": " + key + " holds " + value.dump() +
                   ", not a size below 2^63");
      }
      sizes.push_back(value.get<int64_t>());
    }
    return sizes;
  }

  void CheckSize(const TensorInfo& info) const {
    int64_t bytes = static_cast<int64_t>(c10::elementSize(info.dtype));
    // A zero dimension empties the tensor, but must not hide an overflow.
    bool overflow = false;
    bool empty = false;
    for (const int64_t size : info.shape) {
      if (size == 0) {
        empty = true;
      } else {
        overflow |= __builtin_mul_overflow(bytes, size, &bytes);
      }
    }
    if (overflow) {
      throw Fail("tensor " + info.name + ": the size of shape " + ShapeString(info.shape) +
                 " overflows 64 bits");
    }
    if (empty) bytes = 0;
    if (bytes != info.bytes()) {
      throw Fail("tensor " + info.name + ": shape " + ShapeString(info.shape) + " of " +
                 *SafetensorsDtypeName(info.dtype) + " takes " + std::to_string(bytes) +
                 " bytes, and its data_offsets span " + std::to_string(info.bytes()));
    }
  }

  // The tensors must tile the data section: no overlap, no hole, no rest.
  void CheckTiling() const {
    std::vector<const TensorInfo*> order;
    for (const auto& [name, info] : header_.tensors) order.push_back(&info);
    std::sort(order.begin(), order.end(), [](const TensorInfo* a, const TensorInfo* b) {
      return std::pair(a->begin, a->end) < std::pair(b->begin, b->end);
    });
    int64_t at = 0;
    const TensorInfo* before = nullptr;
    for (const TensorInfo* info : order) {
      if (info->begin < at) {
        throw Fail("tensors " + before->name + " and " + info->name +
                   " overlap: one ends at byte " + std::to_string(at) +
                   " of the data, the other begins at " + std::to_string(info->begin));
      }
      if (info->begin > at) {
        throw Fail("bytes " + std::to_string(at) + " to " + std::to_string(info->begin) +
                   " of the data, before tensor " + info->name + ", belong to no tensor");
      }
      at = info->end;
      before = info;
    }
    if (at != data_bytes_) {
      throw Fail("the tensors end at byte " + std::to_string(at) +
                 " of the data, and the file goes on to " + std::to_string(data_bytes_));
    }
  }

  const std::string& path_;
  const std::string_view file_;
  int64_t data_bytes_ = 0;
  SafetensorsHeader header_;
};

}  // namespace

SafetensorsHeader ParseSafetensorsHeader(const std::string& path, std::string_view file) {
  return HeaderParser(path, file).Parse();
}

std::optional<std::string> SafetensorsDtypeName(at::ScalarType dtype) {
  for (const auto& [name, type] : kDtypes) {
    if (type == dtype) return std::string(name);
  }
  return std::nullopt;
}

std::optional<at::ScalarType> SafetensorsDtype(std::string_view name) {
  for (const auto& [known, type] : kDtypes) {
    if (known == name) return type;
  }
  return std::nullopt;
}

}  // namespace liger::trainer
