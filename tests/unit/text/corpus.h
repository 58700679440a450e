#ifndef LIGER_TESTS_UNIT_TEXT_CORPUS_H_
#define LIGER_TESTS_UNIT_TEXT_CORPUS_H_

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "tests/paths.h"

// Reads what tools/fixtures/text_fixtures.py wrote and what it read.
namespace liger::trainer {

inline std::string GoldenDir() { return SourceDir() + "/tests/golden/text"; }

inline std::string ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + path);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

inline std::vector<std::string> SplitLines(const std::string& text) {
  std::vector<std::string> lines;
  size_t done = 0;
  for (size_t at; (at = text.find('\n', done)) != std::string::npos; done = at + 1) {
    lines.push_back(text.substr(done, at - done));
  }
  lines.push_back(text.substr(done));
  return lines;
}

inline std::vector<nlohmann::json> ReadJsonLines(const std::string& path) {
  std::vector<nlohmann::json> rows;
  for (const std::string& line : SplitLines(ReadAll(path))) {
    if (!line.empty()) rows.push_back(nlohmann::json::parse(line));
  }
  return rows;
}

inline void AppendStrings(const nlohmann::json& value, std::vector<std::string>* out) {
  if (value.is_string()) out->push_back(value.get<std::string>());
  if (value.is_structured()) {
    for (const auto& item : value) AppendStrings(item, out);
  }
}

// Every string of tests/data, in the fixture script's order.
inline std::vector<std::string> DataStrings() {
  const std::string dir = SourceDir() + "/tests/data/";
  std::vector<std::string> out;
  for (const char* name : {"alpaca_en_demo.json", "dpo_en_demo.json", "kto_en_demo.json"}) {
    AppendStrings(nlohmann::json::parse(ReadAll(dir + name)), &out);
  }
  for (const nlohmann::json& row : ReadJsonLines(dir + "c4_demo.jsonl")) AppendStrings(row, &out);
  for (std::string& line : SplitLines(ReadAll(dir + "wiki_demo.txt"))) {
    out.push_back(std::move(line));
  }
  AppendStrings(nlohmann::json::parse(ReadAll(dir + "mllm_demo.json")), &out);
  return out;
}

inline std::vector<std::string> FuzzStrings() {
  std::vector<std::string> out;
  for (const nlohmann::json& row : ReadJsonLines(GoldenDir() + "/fuzz_strings.jsonl")) {
    out.push_back(row.get<std::string>());
  }
  return out;
}

}  // namespace liger::trainer

#endif  // LIGER_TESTS_UNIT_TEXT_CORPUS_H_
