// Tokenised rows against TRL's own (tools/fixtures/data_fixtures.py, kto_fixtures.py).
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "tests/paths.h"
#include "worker/trainer/data/batch.h"
#include "worker/trainer/data/dataset.h"
#include "worker/trainer/text/chat_template.h"
#include "worker/trainer/text/tokenizer.h"

namespace liger::trainer {
namespace {

using liger::v1::JobSpec;
using nlohmann::json;

const std::string kSource = SourceDir() + "/";

std::vector<json> Cases(const char* name) {
  std::ifstream file(kSource + "tests/golden/data/" + name);
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

INSTANTIATE_TEST_SUITE_P(Cases, TrlTest, testing::ValuesIn(Cases("trl.json")),
                         [](const auto& info) {
                           return info.param["name"].template get<std::string>();
                         });

// Sequence s of a batch as the fixtures have it.
json Sequence(const Batch& batch, int64_t s) {
  const int32_t* borders = batch.cu_seqlens_S1.const_data_ptr<int32_t>();
  const auto values = [&](const at::Tensor& all_T) {
    const int64_t* data = all_T.const_data_ptr<int64_t>();
    return std::vector<int32_t>(data + borders[s], data + borders[s + 1]);
  };
  const std::vector<int32_t> ids = values(batch.input_ids_T);
  return {ids.size(), Fnv1a(ids), Fnv1a(values(batch.labels_T))};
}

class KtoTrlTest : public testing::TestWithParam<json> {};

// Rows, and prompts with the whole answer of the row before, each cut to max_length.
TEST_P(KtoTrlTest, GivesTheSameRowsAndMismatchedRows) {
  const json& golden = GetParam();
  const std::string folder = TokenizerFolder(golden["tokenizer"]);
  const auto tokenizer = Tokenizer::FromFolder(folder);
  const auto chat_template = ChatTemplate::FromFolder(folder);
  liger::v1::DatasetSpec spec;
  spec.set_uri(kSource + golden["file"].get<std::string>());
  spec.set_max_samples(golden["max_samples"]);
  LoadOptions options;
  options.method = JobSpec::kKto;
  options.max_length = golden["max_length"];
  const ExampleSet set =
      LoadDataset(spec, options, *tokenizer, chat_template.has_value() ? &*chat_template : nullptr)
          .train;
  int64_t row = 0;
  for (const json& expected : golden["batches"]) {
    std::vector<int64_t> rows(expected["rows"].size());
    std::iota(rows.begin(), rows.end(), row);
    row += std::ssize(rows);
    const Batch batch = MakeBatch(set, rows);
    for (int64_t i = 0; i < std::ssize(rows); ++i) {
      SCOPED_TRACE("row " + std::to_string(rows[i]));
      EXPECT_EQ(batch.desirable_R.const_data_ptr<bool>()[i], expected["label"][i].get<bool>());
      EXPECT_EQ(Sequence(batch, i), expected["rows"][i]);
      EXPECT_EQ(Sequence(*batch.mismatched, i), expected["mismatched"][i]);
    }
  }
  EXPECT_LE(set.num_rows() - row, 1);  // the fixture has no batch of one
}

INSTANTIATE_TEST_SUITE_P(Cases, KtoTrlTest, testing::ValuesIn(Cases("trl_kto.json")),
                         [](const auto& info) {
                           return info.param["name"].template get<std::string>();
                         });

}  // namespace
}  // namespace liger::trainer
