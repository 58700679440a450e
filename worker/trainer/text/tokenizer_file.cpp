#include "worker/trainer/text/tokenizer_file.h"

#include <simdjson.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "worker/trainer/text/bpe_reader.h"
#include "worker/trainer/text/config_node.h"

namespace liger::trainer {
namespace {

[[noreturn]] void FailMalformed(const std::string& path, const std::string& text, size_t byte,
                                const std::string& why) {
  const size_t at = std::min(byte, text.size());
  const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<int64_t>(at), '\n');
  const size_t newline = at == 0 ? std::string::npos : text.rfind('\n', at - 1);
  const size_t column = newline == std::string::npos ? at + 1 : at - newline;
  const std::string name = std::filesystem::path(path).filename();
  throw ConfigError(name + " is not valid JSON at line " + std::to_string(line) + ", column " +
                        std::to_string(column) + ": " + why,
                    "Copy " + path + " again from the model's original; it may be truncated.")
      .File(path);
}

nlohmann::json ParseJson(const std::string& path, const std::string& text) {
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::parse_error& error) {
    std::string why = error.what();
    const size_t detail = why.rfind(": ");
    FailMalformed(path, text, error.byte == 0 ? 0 : error.byte - 1,
                  detail == std::string::npos ? why : why.substr(detail + 2));
  }
}

// For the small parts of the file, which are read at leisure.
nlohmann::json ToJson(const simdjson::dom::element& element) {
  return nlohmann::json::parse(simdjson::minify(element));
}

}  // namespace

std::string ReadTextFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string text;
  if (in) text.assign(std::istreambuf_iterator<char>(in), {});
  if (!in || in.bad()) {
    throw ConfigError("cannot read " + path + ": " + std::strerror(errno),
                      "Check that the file exists and that the worker may read it.")
        .File(path);
  }
  return text;
}

nlohmann::json ReadJsonFile(const std::string& path) { return ParseJson(path, ReadTextFile(path)); }

TokenizerFile ReadTokenizerFile(const std::string& path) {
  const std::string text = ReadTextFile(path);
  // simdjson reads the megabytes of vocabulary 20 times as fast; where it
  // fails, the slower parser says where.
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  if (const auto error = parser.parse(text).get(root)) {
    ParseJson(path, text);
    FailMalformed(path, text, text.size(), simdjson::error_message(error));
  }
  TokenizerFile file;
  file.path = path;
  file.config = nlohmann::json::object();
  simdjson::dom::object members;
  simdjson::dom::element model;
  if (root.get(members)) ConfigNode(ToJson(root), path, "").Fail("must hold a JSON object");
  for (const auto& [key, value] : members) {
    if (key != "model") file.config[std::string(key)] = ToJson(value);
  }
  if (members["model"].get(model)) ConfigNode(file.config, path, "").Fail("lacks \"model\"");
  file.model = ReadModel(model, path);
  return file;
}

}  // namespace liger::trainer
