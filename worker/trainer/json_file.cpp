#include "worker/trainer/json_file.h"

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

constexpr char kCopyAgain[] =
    "Correct the file, or copy it again from the model's original; it may be truncated.";

template <typename Json>
Json Parse(const std::string& path, const std::string& text) {
  try {
    return ParseJson<Json>(text);
  } catch (const JsonTextError& error) {
    FailMalformed(path, text, error.offset(), error.what());
  }
}

template <typename Json>
Json ReadObject(const std::string& path) {
  Json value = Parse<Json>(path, ReadTextFile(path));
  if (value.is_object()) return value;
  throw ConfigError(path + ": must be a JSON object, not " + value.type_name(), kCopyAgain)
      .File(path);
}

}  // namespace

std::string ReadTextFile(const std::string& path) {
  std::error_code error;
  // The open of a pipe would wait for a writer, and a device may never end.
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  const bool other = std::filesystem::exists(status) && !std::filesystem::is_regular_file(status);
  std::ifstream file;
  if (!other) file.open(path, std::ios::binary);
  std::string text;
  if (file.is_open()) text.assign(std::istreambuf_iterator<char>(file), {});
  if (other || !file || file.bad()) {
    throw ConfigError("cannot read " + path + ": " +
                          (other ? "not a regular file" : std::strerror(errno)),
                      "Check that the model folder is complete and readable by the worker.")
        .File(path);
  }
  return text;
}

nlohmann::json ReadJsonFile(const std::string& path) {
  return ParseJsonFile(path, ReadTextFile(path));
}

nlohmann::json ReadJsonObject(const std::string& path) { return ReadObject<nlohmann::json>(path); }

nlohmann::ordered_json ReadOrderedJsonObject(const std::string& path) {
  return ReadObject<nlohmann::ordered_json>(path);
}

nlohmann::json ParseJsonFile(const std::string& path, const std::string& text) {
  return Parse<nlohmann::json>(path, text);
}

void FailMalformed(const std::string& path, const std::string& text, size_t offset,
                   const std::string& why) {
  throw ConfigError(
      path + ": " + Locate(text, std::min(offset, text.size())).ToString() + ": " + why, kCopyAgain)
      .File(path);
}

}  // namespace liger::trainer
