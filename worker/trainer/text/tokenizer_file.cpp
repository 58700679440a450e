#include "worker/trainer/text/tokenizer_file.h"

#include <simdjson.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "worker/trainer/json_location.h"
#include "worker/trainer/json_parse.h"
#include "worker/trainer/text/bpe_reader.h"
#include "worker/trainer/text/config_node.h"

namespace liger::trainer {
namespace {

[[noreturn]] void FailMalformed(const std::string& path, const std::string& text, size_t offset,
                                const std::string& why) {
  const std::string name = std::filesystem::path(path).filename();
  throw ConfigError(
      name + ": " + Locate(text, std::min(offset, text.size())).ToString() + ": " + why,
      "Copy " + path + " again from the model's original; it may be truncated.")
      .File(path);
}

nlohmann::json ParseFile(const std::string& path, const std::string& text) {
  try {
    return ParseJson<nlohmann::json>(text);
  } catch (const JsonTextError& error) {
    FailMalformed(path, text, error.offset(), error.what());
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

nlohmann::json ReadJsonFile(const std::string& path) { return ParseFile(path, ReadTextFile(path)); }

TokenizerFile ReadTokenizerFile(const std::string& path) {
  const std::string text = ReadTextFile(path);
  // simdjson reads the megabytes of vocabulary 20 times as fast; where it
  // fails, the slower parser says where.
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  auto error = parser.allocate(text.size(), kMaxJsonDepth);
  if (!error) error = parser.parse(text).get(root);
  if (error) {
    ParseFile(path, text);
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
