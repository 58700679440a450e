#include "worker/trainer/checkpoint/model_folder.h"

#include <ATen/ATen.h>

#include "tests/unit/checkpoint/test_util.h"
#include "worker/trainer/checkpoint/adapter_folder.h"
#include "worker/trainer/checkpoint/model_card.h"
#include "worker/trainer/checkpoint/weights.h"

namespace liger::trainer {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

class ModelFolderTest : public testing::Test {
 protected:
  ModelFolderTest() {
    fs::create_directories(dir_ / "source");
    WriteFile(dir_ / "source/config.json",
              R"({"zeta": 1, "torch_dtype": "bfloat16", "tie_word_embeddings": false})");
    WriteFile(dir_ / "source/tokenizer.json", "{ \"kept\" :  \"verbatim\" }");
    WriteFile(dir_ / "source/tokenizer_config.json", "{}");
    WriteFile(dir_ / "source/chat_template.jinja", "{{ messages }}");
    WriteFile(dir_ / "source/LICENSE", "terms");
    WriteFile(dir_ / "source/pytorch_model.bin", "old weights");
  }

  SaveModelRequest Request() {
    SaveModelRequest request;
    request.dir = dir_ / "out";
    request.source_dir = dir_ / "source";
    request.tensors = {{"model.embed_tokens.weight", at::randn({6, 4})},
                       {"lm_head.weight", at::randn({6, 4})}};
    return request;
  }

  const TempDir dir_;
};

TEST_F(ModelFolderTest, HoldsEverythingThatTheSourceAndTheCallerGive) {
  SaveModelRequest request = Request();
  request.dtype = at::kFloat;
  request.model_card = "# card\n";
  request.extra_files["resolved_spec.json"] = "{}";
  WriteFile(dir_ / "m.jsonl", "{\"step\": 1}\n");
  request.copy_files["metrics.jsonl"] = dir_ / "m.jsonl";
  const SavedFolder saved = SaveModel(request);

  for (const char* name :
       {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "LICENSE"}) {
    EXPECT_EQ(ReadFile(dir_ / "out/" + name), ReadFile(dir_ / "source/" + name)) << name;
  }
  EXPECT_EQ(ReadFile(dir_ / "out/README.md"), "# card\n");
  EXPECT_EQ(ReadFile(dir_ / "out/metrics.jsonl"), "{\"step\": 1}\n");
  EXPECT_TRUE(fs::exists(dir_ / "out/resolved_spec.json"));
  EXPECT_FALSE(fs::exists(dir_ / "out/pytorch_model.bin"));
  EXPECT_EQ(VerifyManifest(dir_ / "out"), saved.manifest_digest);

  const WeightReader reader = WeightReader::Open(dir_ / "out");
  EXPECT_TRUE(at::equal(reader.View("lm_head.weight"), request.tensors[1].tensor));
}

TEST_F(ModelFolderTest, ConfigKeepsItsOrderAndTellsTheNewDtype) {
  SaveModelRequest request = Request();
  request.dtype = at::kHalf;
  SaveModel(request);
  const std::string text = ReadFile(dir_ / "out/config.json");
  EXPECT_LT(text.find("zeta"), text.find("tie_word_embeddings"));
  EXPECT_EQ(ReadModelConfig(dir_ / "out")["torch_dtype"], "float16");
  EXPECT_EQ(WeightReader::Open(dir_ / "out").Info("lm_head.weight").dtype, at::kHalf);

  WriteFile(dir_ / "source/config.json", R"({"dtype": "float32"})");
  request.overwrite = true;
  SaveModel(request);
  EXPECT_EQ(ReadModelConfig(dir_ / "out")["dtype"], "float16");
  EXPECT_FALSE(ReadModelConfig(dir_ / "out").contains("torch_dtype"));
}

TEST_F(ModelFolderTest, ATiedHeadIsLeftOut) {
  WriteFile(dir_ / "source/config.json", R"({"tie_word_embeddings": true})");
  SaveModel(Request());
  const WeightReader reader = WeightReader::Open(dir_ / "out");
  EXPECT_FALSE(reader.Has("lm_head.weight"));
  EXPECT_TRUE(reader.Has("model.embed_tokens.weight"));
}

TEST_F(ModelFolderTest, AHeadOfItsOwnIsKept) {
  WriteFile(dir_ / "source/config.json", R"({"tie_word_embeddings": true})");
  SaveModelRequest request = Request();
  request.untied = true;
  SaveModel(request);
  EXPECT_TRUE(WeightReader::Open(dir_ / "out").Has("lm_head.weight"));
  EXPECT_EQ(ReadModelConfig(dir_ / "out")["tie_word_embeddings"], false);
}

// Its files of code are not copied; transformers' save_pretrained of its own classes drops it.
TEST_F(ModelFolderTest, NamesOfPythonCodeAreDropped) {
  WriteFile(dir_ / "source/config.json",
            R"({"auto_map": {"AutoConfig": "c.C"}, "hidden_size": 4})");
  WriteFile(dir_ / "source/tokenizer_config.json",
            R"({"auto_map": {"AutoTokenizer": ["t.T", null]}, "bos_token": "<s>"})");
  SaveModel(Request());
  EXPECT_FALSE(ReadModelConfig(dir_ / "out").contains("auto_map"));
  EXPECT_EQ(nlohmann::json::parse(ReadFile(dir_ / "out/tokenizer_config.json")),
            nlohmann::json({{"bos_token", "<s>"}}));
  VerifyManifest(dir_ / "out");
}

TEST_F(ModelFolderTest, NamesOfPythonCodeAreDroppedBesideAnAdapterToo) {
  WriteFile(dir_ / "source/tokenizer_config.json",
            R"({"auto_map": {"AutoTokenizer": ["t.T", null]}, "bos_token": "<s>"})");
  SaveAdapterRequest request;
  request.dir = dir_ / "adapter";
  request.source_dir = dir_ / "source";
  request.tensors = {{"base_model.model.lm_head.lora_A.weight", at::ones({2, 2})}};
  SaveAdapter(request);
  EXPECT_EQ(nlohmann::json::parse(ReadFile(dir_ / "adapter/tokenizer_config.json")),
            nlohmann::json({{"bos_token", "<s>"}}));
  VerifyManifest(dir_ / "adapter");
}

TEST_F(ModelFolderTest, NullForTyingIsUntied) {
  WriteFile(dir_ / "source/config.json", R"({"tie_word_embeddings": null})");
  SaveModel(Request());
  EXPECT_TRUE(WeightReader::Open(dir_ / "out").Has("lm_head.weight"));
}

TEST_F(ModelFolderTest, TemplatesWithNamesAreSavedToo) {
  fs::create_directories(dir_ / "source/additional_chat_templates");
  WriteFile(dir_ / "source/additional_chat_templates/tool_use.jinja", "{{ tools }}");
  SaveModel(Request());
  EXPECT_EQ(ReadFile(dir_ / "out/additional_chat_templates/tool_use.jinja"), "{{ tools }}");
  VerifyManifest(dir_ / "out");
}

TEST_F(ModelFolderTest, ReadsGenerationConfigWhereThereIsOne) {
  EXPECT_FALSE(ReadGenerationConfig(dir_ / "source").has_value());
  WriteFile(dir_ / "source/generation_config.json", R"({"eos_token_id": 2})");
  EXPECT_EQ(ReadGenerationConfig(dir_ / "source")->at("eos_token_id"), 2);
  SaveModel(Request());
  EXPECT_EQ(ReadGenerationConfig(dir_ / "out")->at("eos_token_id"), 2);
}

TEST_F(ModelFolderTest, OfAFolderOfCheckpointsTheNewestIsNamed) {
  for (const char* name : {"checkpoint-9", "checkpoint-20", "checkpoint-30"}) {
    fs::create_directories(dir_ / (std::string("all/") + name));
  }
  for (const char* name : {"checkpoint-9", "checkpoint-20"}) {
    WriteFile(dir_ / ("all/" + std::string(name) + "/config.json"), "{}");
  }
  const auto failure = FailureOf([&] { ReadModelConfig(dir_ / "all"); });
  EXPECT_THAT(failure.message(), HasSubstr("is no model's folder"));
  EXPECT_THAT(failure.action(), HasSubstr("checkpoint-20 in it"));
}

TEST_F(ModelFolderTest, BrokenConfigsAreToldWithTheirPlace) {
  WriteFile(dir_ / "source/config.json", "{\n  \"a\": 1,\n  \"b\": tru\n}\n");
  auto failure = FailureOf([&] { ReadModelConfig(dir_ / "source"); });
  EXPECT_EQ(failure.class_(), liger::v1::FAILURE_CLASS_CONFIG);
  EXPECT_THAT(failure.message(), HasSubstr("config.json: line 3, column 11, byte 23"));
  EXPECT_THAT(failure.message(), Not(HasSubstr("json.exception")));
  WriteFile(dir_ / "source/config.json", "[]");
  EXPECT_THAT(FailureOf([&] { ReadModelConfig(dir_ / "source"); }).message(),
              HasSubstr("must be a JSON object, not array"));
  WriteFile(dir_ / "source/config.json", "");
  EXPECT_THAT(FailureOf([&] { ReadModelConfig(dir_ / "source"); }).message(),
              HasSubstr("line 1, column 1"));
  WriteFile(dir_ / "source/config.json", R"({"rope_theta": 1e999})");
  EXPECT_THAT(FailureOf([&] { ReadModelConfig(dir_ / "source"); }).message(),
              HasSubstr("config.json: line 1, column 20, byte 20: number overflow"));
  WriteFile(dir_ / "source/config.json",
            "{\"a\":" + std::string(100'000, '[') + std::string(100'000, ']') + "}");
  EXPECT_THAT(FailureOf([&] { ReadModelConfig(dir_ / "source"); }).message(),
              HasSubstr("config.json: line 1, column 261, byte 261: nested more than 256 levels"));
  EXPECT_THAT(FailureOf([&] { ReadModelConfig(dir_ / "nowhere"); }).message(),
              HasSubstr("nowhere/config.json: No such file"));
}

TEST(ModelCard, NamesBaseMethodDataAndResults) {
  liger::v1::JobSpec spec;
  spec.set_name("run-7");
  spec.mutable_model()->set_name("/models/smollm2-135m/");
  spec.mutable_dataset()->set_name("alpaca");
  spec.mutable_orpo()->set_beta(0.25);
  spec.mutable_training()->set_learning_rate(1e-5);
  spec.mutable_training()->set_precision(liger::v1::PRECISION_FP32);
  spec.mutable_training()->set_compute_dtype(liger::v1::DTYPE_BF16);
  spec.mutable_kernels()->set_mode(liger::v1::KERNEL_MODE_LIGER);
  const std::string card = MakeModelCard(spec, {{"eval_loss after", 1.5}});
  EXPECT_TRUE(card.starts_with("---\nlibrary_name: transformers\n"));
  EXPECT_THAT(card, HasSubstr("# run-7\n\nsmollm2-135m, fine-tuned with ORPO on alpaca"));
  EXPECT_THAT(card, HasSubstr("| beta | 0.25 |"));
  EXPECT_THAT(card, HasSubstr("| learning_rate | 1e-05 |"));
  EXPECT_THAT(card, HasSubstr("| eval_loss after | 1.5 |"));
  // As job files have them.
  EXPECT_THAT(card, HasSubstr("| precision | FP32 |"));
  EXPECT_THAT(card, HasSubstr("| compute_dtype | BF16 |"));
  EXPECT_THAT(card, HasSubstr("| mode | LIGER |"));
  EXPECT_THAT(card, Not(HasSubstr("/models")));  // no paths of this machine
}

TEST(ReadModelConfigTest, AnAdaptersFolderIsCalledOne) {
  const fs::path dir = fs::path(testing::TempDir()) / "an_adapter";
  fs::create_directories(dir);
  WriteFile(dir / "adapter_config.json", R"({"base_model_name_or_path": "base"})");
  try {
    ReadModelConfig(dir);
    FAIL() << "read as a model";
  } catch (const TrainerError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("is an adapter's folder, not a model's"));
    EXPECT_THAT(error.failure().action(), testing::HasSubstr("lora.adapter_uri"));
  }
  fs::remove_all(dir);
}

}  // namespace
}  // namespace liger::trainer
