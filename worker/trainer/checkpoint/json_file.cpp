#include "worker/trainer/checkpoint/json_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "worker/trainer/error.h"
#include "worker/trainer/json_location.h"
#include "worker/trainer/json_parse.h"

namespace liger::trainer {
namespace {

namespace fs = std::filesystem;

std::string ReadText(const std::string& path) {
  std::error_code error;
  std::ifstream file(path, std::ios::binary);
  if (!file || fs::is_directory(path, error)) {
    throw ConfigError(
        "cannot read " + path + ": " + (error || errno == 0 ? "not a file" : std::strerror(errno)),
        "Check that the model folder is complete and readable by the worker.")
        .File(path);
  }
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

template <typename Json>
Json ReadObject(const std::string& path) {
  const std::string text = ReadText(path);
  Json value;
  try {
    value = ParseJson<Json>(text);
  } catch (const JsonTextError& e) {
    throw ConfigError(
        path + ": " + Locate(text, std::min(e.offset(), text.size())).ToString() + ": " + e.what(),
        "Correct the file, or download or copy it again.")
        .File(path);
  }
  if (!value.is_object()) {
    throw ConfigError(path + ": must be a JSON object, not " + value.type_name(),
                      "Correct the file, or download or copy it again.")
        .File(path);
  }
  return value;
}

}  // namespace

nlohmann::json ReadJsonObject(const std::string& path) { return ReadObject<nlohmann::json>(path); }

nlohmann::ordered_json ReadOrderedJsonObject(const std::string& path) {
  return ReadObject<nlohmann::ordered_json>(path);
}

}  // namespace liger::trainer
