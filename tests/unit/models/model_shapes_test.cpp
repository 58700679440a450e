// Each shape of the catalog, built on the meta device, has the published number of
// parameters.
#include "common/model_shapes/model_shapes.h"

#include <gtest/gtest.h>

#include "tests/unit/models/golden.h"
#include "worker/trainer/models/registry.h"

namespace liger::trainer {
namespace {

// What the models' authors say (the hub's safetensors counts).
const std::map<std::string, int64_t>& Published() {
  static const std::map<std::string, int64_t> published = {
      {"gemma-2b", 2506172416},           {"gemma-7b", 8537680896},
      {"gemma2-2b", 2614341888},          {"gemma2-9b", 9241705984},
      {"llama2-7b", 6738415616},          {"llama3-8b", 8030261248},
      {"llama3-8b-instruct", 8030261248}, {"llama3.1-8b", 8030261248},
      {"llama3.2-1b", 1235814400},        {"llama3.2-3b", 3212749824},
      {"mistral-7b", 7241732096},         {"mixtral-8x7b", 46702792704},
      {"phi3-mini", 3821079552},          {"phi3.5-mini", 3821079552},
      {"qwen2-7b", 7615616512},           {"qwen2.5-0.5b", 494032768},
      {"qwen2.5-1.5b", 1543714304},       {"qwen2.5-7b", 7615616512},
      {"qwen3-0.6b", 596049920},          {"qwen3-8b", 8190735360},
      {"smollm2-1.7b", 1711376384},       {"smollm2-135m", 134515008},
      {"smollm2-360m", 361821120},        {"tinyllama-1.1b", 1100048384}};
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

}  // namespace
}  // namespace liger::trainer
