// Tokenised rows against TRL's own (tools/fixtures/data_fixtures.py).
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "worker/trainer/data/dataset.h"
#include "worker/trainer/text/chat_template.h"
#include "worker/trainer/text/tokenizer.h"

namespace liger::trainer {
namespace {

using liger::v1::JobSpec;
using nlohmann::json;

const std::string kSource = std::string(LIGER_SOURCE_DIR) + "/";

std::vector<json> Cases() {
  std::ifstream file(kSource + "tests/golden/data/trl.json");
  return json::parse(file)["cases"].get<std::vector<json>>();
}

std::string Fnv1a(const std::vector<int32_t>& values) {
  uint64_t digest = 0xCBF29CE484222325u;
  for (const int32_t value : values) {
    for (int shift = 0; shift < 32; shift += 8) {
      digest = (digest ^ (static_cast<uint32_t>(value) >> shift & 0xFF)) * 0x100000001B3u;
    }
  }
  char hex[17];
  std::snprintf(hex, sizeof(hex), "%016lx", static_cast<unsigned long>(digest));
  return hex;
}

std::string TokenizerFolder(const std::string& name) {
  if (name != "smollm2") return kSource + "tests/golden/data/" + name;
  const char* folder = std::getenv("LIGER_SMOLLM2_DIR");
  return folder != nullptr ? folder : kSource + ".cache/models-v2/smollm2-135m";
}

JobSpec::MethodCase Method(const std::string& name) {
  return name == "sft" ? JobSpec::kSft : name == "dpo" ? JobSpec::kDpo : JobSpec::kOrpo;
}

class TrlTest : public testing::TestWithParam<json> {};

TEST_P(TrlTest, GivesTheSameIdsAndLabels) {
  const json& golden = GetParam();
  const std::string folder = TokenizerFolder(golden["tokenizer"]);
  ASSERT_TRUE(std::filesystem::exists(folder + "/tokenizer.json"))
      << "no SmolLM2 in " << folder << ": run tools/fetch_smollm2, or set LIGER_SMOLLM2_DIR";
  const auto tokenizer = Tokenizer::FromFolder(folder);
  const auto chat_template = ChatTemplate::FromFolder(folder);

  liger::v1::DatasetSpec spec;
  spec.set_uri(kSource + golden["file"].get<std::string>());
  spec.set_max_samples(golden["max_samples"]);
  LoadOptions options;
  options.method = Method(golden["method"]);
  options.max_length = golden["max_length"];
  options.keep_end = golden.value("truncation_mode", "keep_start") == "keep_end";
  if (golden.contains("completion_only_loss")) {
    options.completion_only_loss = golden["completion_only_loss"].get<bool>();
  }
  const Dataset dataset =
      LoadDataset(spec, options, *tokenizer, chat_template.has_value() ? &*chat_template : nullptr);

  const json& expected = golden["sequences"];
  ASSERT_EQ(dataset.train.sequences.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    const Example& sequence = dataset.train.sequences[i];
    ASSERT_EQ(sequence.input_ids.size(), expected[i][0].get<size_t>()) << "sequence " << i;
    ASSERT_EQ(Fnv1a(sequence.input_ids), expected[i][1].get<std::string>()) << "sequence " << i;
    std::vector<int32_t> labels = sequence.labels;
    if (options.keep_end) labels[0] = kIgnoredLabel;  // as the fixture has it
    ASSERT_EQ(Fnv1a(labels), expected[i][2].get<std::string>()) << "sequence " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, TrlTest, testing::ValuesIn(Cases()), [](const auto& info) {
  return info.param["name"].template get<std::string>();
});

}  // namespace
}  // namespace liger::trainer
