#include "worker/trainer/models/config_reader.h"

#include "worker/trainer/error.h"

namespace liger::trainer {

ConfigReader::ConfigReader(const Json& json, std::string file, std::string prefix)
    : json_(json), file_(std::move(file)), prefix_(std::move(prefix)) {}

const ConfigReader::Json* ConfigReader::Find(const char* key) const {
  asked_.insert(key);
  const auto it = json_.find(key);
  return it == json_.end() || it->is_null() ? nullptr : &*it;
}

void ConfigReader::Fail(const std::string& key, const std::string& problem,
                        const std::string& action) const {
  throw ConfigError(file_ + ": " + prefix_ + key + " " + problem, action)
      .Field(prefix_ + key)
      .File(file_);
}

void ConfigReader::Unsupported(const std::string& key, const Json& value) const {
  Fail(key, "= " + Shown(value) + " is not implemented",
       "Use a model without this feature; it cannot be ignored without changing the result.");
}

int64_t ConfigReader::Size(const char* key, std::optional<int64_t> fallback, int64_t max) const {
  const Json* value = Find(key);
  if (!value && fallback) return *fallback;
  if (!value) Fail(key, "is missing", kComplete);
  if (!value->is_number_integer()) Fail(key, "= " + Shown(*value) + " is not an integer");
  const bool small = value->is_number_unsigned() ? value->get<uint64_t>() <= uint64_t(max)
                                                 : value->get<int64_t>() <= max;
  if (!small || value->get<int64_t>() < 1) {
    Fail(key, "= " + Shown(*value) + " is outside [1, " + std::to_string(max) + "]");
  }
  return value->get<int64_t>();
}

std::optional<int64_t> ConfigReader::SizeOrNone(const char* key,
                                                std::optional<int64_t> absent) const {
  if (!Find(key)) return Contains(key) ? std::nullopt : absent;
  return Size(key);
}

double ConfigReader::Positive(const char* key, std::optional<double> fallback) const {
  const Json* value = Find(key);
  if (!value && fallback) return *fallback;
  if (!value) Fail(key, "is missing", kComplete);
  if (!value->is_number()) Fail(key, "= " + Shown(*value) + " is not a number");
  if (!(value->get<double>() > 0)) Fail(key, "= " + Shown(*value) + " is not positive");
  return value->get<double>();
}

double ConfigReader::NotNegative(const char* key, double fallback) const {
  const Json* value = Find(key);
  return value && *value == 0 ? 0 : Positive(key, fallback);
}

std::optional<double> ConfigReader::PositiveOrNone(const char* key,
                                                   std::optional<double> absent) const {
  if (!Find(key)) return Contains(key) ? std::nullopt : absent;
  return Positive(key);
}

std::vector<double> ConfigReader::PositiveList(const char* key, int64_t length) const {
  const Json* value = Find(key);
  if (!value) Fail(key, "is missing", kComplete);
  std::vector<double> list;
  const bool right = value->is_array() && static_cast<int64_t>(value->size()) == length;
  if (right) {
    for (const Json& item : *value) {
      if (item.is_number() && item.get<double>() > 0) list.push_back(item.get<double>());
    }
  }
  if (static_cast<int64_t>(list.size()) != length) {
    Fail(key, "= " + Shown(*value) + " is not a list of " + std::to_string(length) +
                  " positive numbers, one for each rotated pair of a head");
  }
  return list;
}

bool ConfigReader::Bool(const char* key, bool fallback) const {
  const Json* value = Find(key);
  if (!value) return fallback;
  if (!value->is_boolean()) Fail(key, "= " + Shown(*value) + " is not true or false");
  return value->get<bool>();
}

std::string ConfigReader::String(const char* key) const {
  const Json* value = Find(key);
  if (!value) Fail(key, "is missing", kComplete);
  if (!value->is_string()) Fail(key, "= " + Shown(*value) + " is not a string");
  return value->get<std::string>();
}

std::string ConfigReader::String(const char* key, const char* fallback) const {
  return Find(key) ? String(key) : fallback;
}

std::string ConfigReader::Shown(const Json& value) {
  const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.size() <= 80 ? text : text.substr(0, 77) + "...";
}

}  // namespace liger::trainer
