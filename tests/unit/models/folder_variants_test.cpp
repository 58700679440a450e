// What transformers takes for the same model: weights under other names, or more of them.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/unit/checkpoint/test_util.h"
#include "tests/unit/models/golden.h"
#include "worker/trainer/checkpoint/model_folder.h"
#include "worker/trainer/checkpoint/weights.h"
#include "worker/trainer/models/registry.h"
#include "worker/trainer/models/weights.h"
#include "worker/trainer/objectives/token_logprobs.h"

namespace liger::trainer {
namespace {

namespace fs = std::filesystem;

constexpr char kHead[] = "lm_head.weight", kEmbedding[] = "model.embed_tokens.weight";

std::map<std::string, at::Tensor> Tensors(const std::string& folder) {
  std::map<std::string, at::Tensor> tensors;
  const auto file = SafetensorsFile::Open(folder + "/model.safetensors");
  for (const auto& [name, info] : file->tensors()) tensors[name] = file->View(name).clone();
  return tensors;
}

class FolderVariants : public testing::Test {
 protected:
  // The folder of `golden` with other weights and a changed config.json.
  std::string Make(const std::string& golden, const std::map<std::string, at::Tensor>& tensors,
                   const nlohmann::json& changes) const {
    SaveModelRequest request;
    request.dir = dir_ / "variant";
    request.overwrite = true;
    request.source_dir = golden;
    request.untied = true;  // all that is given
    for (const auto& [name, tensor] : tensors) request.tensors.push_back({name, tensor});
    SaveModel(request);
    auto config = golden::ReadJson(golden + "/config.json");
    config.update(changes);
    std::ofstream(request.dir + "/config.json") << config;
    return request.dir;
  }
  // How far the logits are from those of transformers for `golden`.
  static double Error(const std::string& folder, const std::string& golden) {
    const auto model = BuildModel(ModelConfig::FromFolder(folder), golden::Kernels("LIGER"));
    CheckWeights(*model, folder);
    LoadWeights(*model, folder);
    const Batch batch =
        golden::SftBatch(golden::ReadJson(golden + "/expected.json")["sft_batches"][0]);
    const at::Tensor logits = model->Logits(model->Hidden(ToModelInput(batch, *model)));
    const auto expected = SafetensorsFile::Open(golden + "/expected.safetensors");
    return golden::RelativeError(logits, expected->View("logits").clone());
  }

  const TempDir dir_;
  const std::string untied_ = golden::Folder("tiny/mha_untied_hub");
  const std::string tied_ = golden::Folder("tiny/gqa_tied_v5");
};

// transformers 5 does not tie what its tie_weights finds to differ, and warns.
TEST_F(FolderVariants, AHeadThatDiffersFromTheEmbeddingIsItsOwn) {
  const std::string folder = Make(untied_, Tensors(untied_), {{"tie_word_embeddings", true}});
  const ModelConfig config = ModelConfig::FromFolder(folder);
  EXPECT_TRUE(config.has_own_head);
  EXPECT_FALSE(config.tie_word_embeddings);
  EXPECT_LT(Error(folder, untied_), 1e-5);
  EXPECT_FALSE(ModelConfig::FromFolder(untied_).has_own_head);
}

TEST_F(FolderVariants, AHeadEqualToTheEmbeddingStaysTied) {
  auto tensors = Tensors(tied_);
  tensors[kHead] = tensors.at(kEmbedding).clone();
  const std::string folder = Make(tied_, tensors, nlohmann::json::object());
  EXPECT_TRUE(WeightReader::Open(folder).Has(kHead));
  EXPECT_TRUE(ModelConfig::FromFolder(folder).tie_word_embeddings);
  EXPECT_LT(Error(folder, tied_), 1e-5);
}

TEST_F(FolderVariants, ATiedWeightMayHaveTheHeadsName) {
  auto tensors = Tensors(tied_);
  auto embedding = tensors.extract(kEmbedding);
  tensors[kHead] = embedding.mapped();
  EXPECT_LT(Error(Make(tied_, tensors, nlohmann::json::object()), tied_), 1e-5);
}

TEST_F(FolderVariants, NamesMayLackTheBasePrefix) {
  std::map<std::string, at::Tensor> bare;
  for (const auto& [name, tensor] : Tensors(untied_)) {
    bare[name == kHead ? name : name.substr(std::string("model.").size())] = tensor;
  }
  EXPECT_LT(Error(Make(untied_, bare, nlohmann::json::object()), untied_), 1e-5);
}

TEST_F(FolderVariants, BuffersThatModelsRecomputeAreIgnored) {
  auto tensors = Tensors(tied_);
  for (const char* name :
       {"model.rotary_emb.inv_freq", "model.layers.0.self_attn.rotary_emb.inv_freq",
        "model.layers.1.self_attn.rotary_emb.cos_cached"}) {
    tensors[name] = at::rand({4});
  }
  const nlohmann::json neutral = {{"pretraining_tp", 2}, {"auto_map", {{"AutoModel", "m.M"}}}};
  EXPECT_LT(Error(Make(tied_, tensors, neutral), tied_), 1e-5);
}

}  // namespace
}  // namespace liger::trainer
