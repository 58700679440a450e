#include "worker/trainer/text/tokenizer_file.h"

#include <simdjson.h>

#include "worker/trainer/json_file.h"
#include "worker/trainer/json_parse.h"
#include "worker/trainer/text/bpe_reader.h"
#include "worker/trainer/text/config_node.h"

namespace liger::trainer {
namespace {

// Some editors put it before a file; it is no part of the JSON.
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// For the small parts of the file, which are read at leisure.
nlohmann::json ToJson(const simdjson::dom::element& element) {
  return nlohmann::json::parse(simdjson::minify(element));
}

}  // namespace

TokenizerFile ReadTokenizerFile(const std::string& path) {
  std::string text = ReadTextFile(path);
  if (text.starts_with(kByteOrderMark)) text.erase(0, kByteOrderMark.size());
  // simdjson reads the megabytes of vocabulary 20 times as fast; where it
  // fails, the slower parser says where.
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  auto error = parser.allocate(text.size(), kMaxJsonDepth);
  if (!error) error = parser.parse(text).get(root);
  if (error) {
    ParseJsonFile(path, text);
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
