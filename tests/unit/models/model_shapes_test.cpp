// Each shape of the catalog, built on the meta device, has the published number of
// parameters.
#include <gtest/gtest.h>

#include "common/model_shapes/model_shapes.h"
#include "tests/unit/models/golden.h"
#include "worker/trainer/models/registry.h"

namespace liger::trainer {
namespace {

// What the models' authors say (the hub's safetensors counts).
const std::map<std::string, int64_t>& Published() {
  static const std::map<std::string, int64_t> published = {
      {"gemma-2b", 2506172416},          {"gemma-7b", 8537680896},
      {"gemma2-2b", 2614341888},         {"gemma2-9b", 9241705984},
      {"llama2-7b", 6738415616},         {"llama3-8b", 8030261248},
      {"llama3-8b-instruct", 8030261248}, {"llama3.1-8b", 8030261248},
      {"llama3.2-1b", 1235814400},       {"llama3.2-3b", 3212749824},
      {"mistral-7b", 7241732096},        {"mixtral-8x7b", 46702792704},
      {"phi3-mini", 3821079552},         {"phi3.5-mini", 3821079552},
      {"qwen2-7b", 7615616512},          {"qwen2.5-0.5b", 494032768},
      {"qwen2.5-1.5b", 1543714304},      {"qwen2.5-7b", 7615616512},
      {"qwen3-0.6b", 596049920},         {"qwen3-8b", 8190735360},
      {"smollm2-1.7b", 1711376384},      {"smollm2-135m", 134515008},
      {"smollm2-360m", 361821120},       {"tinyllama-1.1b", 1100048384}};
  return published;
}

TEST(ModelShapesTest, HaveThePublishedNumberOfParameters) {
  std::map<std::string, int64_t> built;
  for (const ModelShape& shape : ModelShapes()) {
    const std::string name(shape.name);
    const auto config = ModelConfig::FromJson(nlohmann::json::parse(shape.config_json), name);
    for (const auto& parameter :
         BuildModel(config, golden::Kernels("LIGER"), at::kMeta)->parameters()) {
      built[name] += parameter.numel();
    }
  }
  EXPECT_EQ(built, Published());
}

TEST(ModelShapesTest, AreFoundByName) {
  ASSERT_NE(FindModelShape("llama3-8b"), nullptr);
  EXPECT_EQ(FindModelShape("llama3-8b")->name, "llama3-8b");
  EXPECT_EQ(FindModelShape("llama3-8"), nullptr);
}

// SmolLM2's as its folder has it.
TEST(ModelShapesTest, MeanWhatTheFolderMeans) {
  const char* folder = std::getenv("LIGER_SMOLLM2_DIR");
  if (folder == nullptr) GTEST_SKIP() << "no LIGER_SMOLLM2_DIR";
  const auto ours = ModelConfig::FromJson(
      nlohmann::json::parse(FindModelShape("smollm2-135m")->config_json), "smollm2-135m");
  const auto theirs = ModelConfig::FromFolder(folder);
  EXPECT_EQ(ours.vocab_size, theirs.vocab_size);
  EXPECT_EQ(ours.intermediate_size, theirs.intermediate_size);
  EXPECT_EQ(ours.num_key_value_heads, theirs.num_key_value_heads);
  EXPECT_EQ(ours.rope.theta, theirs.rope.theta);
  EXPECT_EQ(ours.max_position_embeddings, theirs.max_position_embeddings);
  EXPECT_EQ(ours.tie_word_embeddings, theirs.tie_word_embeddings);
  EXPECT_EQ(ours.eos_token_ids, theirs.eos_token_ids);
  EXPECT_EQ(ours.pad_token_id, theirs.pad_token_id);
}

}  // namespace
}  // namespace liger::trainer
