// Folders of PEFT's adapters that do not fit.
#include "worker/trainer/checkpoint/adapter_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "common/file.h"
#include "tests/unit/models/lora_cases.h"
#include "worker/trainer/loop/lora_setup.h"

namespace liger::trainer {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

// Copies a PEFT folder with changes in its config.
class AdapterFolderTest : public testing::Test {
 protected:
  AdapterFolderTest() : dir_(fs::path(testing::TempDir()) / "liger_adapter_folder_test") {
    fs::remove_all(dir_);
    fs::copy(AdapterDir("plain"), dir_);
  }
  ~AdapterFolderTest() override { fs::remove_all(dir_); }

  std::string ErrorWith(const std::string& key, const nlohmann::json& value) {
    auto config = golden::ReadJson(AdapterDir("plain") + "/adapter_config.json");
    config[key] = value;
    std::ofstream(dir_ / "adapter_config.json") << config.dump();
    return ErrorText([&] { LoraSetup::Find({}, dir_, *Meta("gqa_tied_v5")); });
  }

  fs::path dir_;
};

TEST_F(AdapterFolderTest, WhatIsNotLoraIsRefusedByName) {
  EXPECT_EQ(ErrorWith("r", 4), "no error");
  EXPECT_EQ(ErrorWith("init_lora_weights", "gaussian"), "no error");
  EXPECT_EQ(ErrorWith("some_key_of_tomorrow", nullptr), "no error");
  const std::vector<std::pair<std::string, nlohmann::json>> refused = {
      {"peft_type", "IA3"},
      {"bias", "all"},
      {"fan_in_fan_out", true},
      {"init_lora_weights", "pissa"},
      {"target_parameters", {"gate_up_proj"}},
      {"trainable_token_indices", {1, 2}},
      {"lora_bias", true},
      {"layer_replication", {{0, 1}}},
      {"alpha_pattern", {{"^model.*", 3}}},
      {"rank_pattern", {{"q_proj", "three"}}},
      {"r", "four"},
      {"r", 0},
      {"some_key_of_tomorrow", 3}};
  for (const auto& [key, value] : refused) {
    const std::string error = ErrorWith(key, value);
    EXPECT_THAT(error, testing::AllOf(HasSubstr("adapter_config.json: " + key),
                                      testing::StartsWith("lora.adapter_uri|")));
  }
}

TEST_F(AdapterFolderTest, RanksThatAreNotTheTensorsAreRefused) {
  EXPECT_THAT(ErrorWith("r", 8), HasSubstr("lora_A.weight is [4, 32] and the model's is [8, 32]"));
  EXPECT_THAT(ErrorWith("use_dora", true), HasSubstr("missing: "));
}

// PEFT's with lm_head or embed_tokens among the targets.
TEST_F(AdapterFolderTest, AdaptersOfHeadAndEmbeddingAreRefusedByName) {
  const std::string path = dir_ / "adapter_model.safetensors", whole = ReadFile(path).value();
  for (const auto& [name, module] :
       {std::pair("lm_head.lora_A.weight", "low-rank weights of lm_head,"),
        {"model.embed_tokens.lora_embedding_A", "low-rank weights of model.embed_tokens,"}}) {
    constexpr std::string_view kName = "model.layers.0.self_attn.q_proj.lora_A.weight";
    std::string renamed = whole;
    const size_t at = renamed.find(kName), header_end = renamed.find("}}") + 2;
    renamed.insert(header_end, kName.size() - std::string_view(name).size(), ' ');
    renamed.replace(at, kName.size(), name);
    std::ofstream(path) << renamed;
    EXPECT_THAT(ErrorWith("r", 4),
                testing::AllOf(testing::StartsWith("lora.adapter_uri|"), HasSubstr(module),
                               HasSubstr("merge_and_unload")));
  }
}

TEST_F(AdapterFolderTest, MissingFilesAreNamed) {
  fs::remove(dir_ / "adapter_model.safetensors");
  EXPECT_THAT(ErrorWith("r", 4), HasSubstr("holds no adapter_model.safetensors"));
  fs::remove(dir_ / "adapter_config.json");
  EXPECT_THAT(ErrorText([&] { LoraSetup::Find({}, dir_, *Meta("gqa_tied_v5")); }),
              HasSubstr("is no adapter folder"));
}

TEST_F(AdapterFolderTest, TheFolderThatWasMeantIsNamed) {
  const auto action = [&] {
    try {
      LoraSetup::Find({}, dir_, *Meta("gqa_tied_v5"));
    } catch (const TrainerError& error) {
      return error.failure().action();
    }
    return std::string();
  };
  const std::string config = ReadFile(dir_ / "adapter_config.json").value();
  fs::remove(dir_ / "adapter_config.json");
  std::ofstream(dir_ / "config.json") << "{}";
  EXPECT_THAT(action(), HasSubstr("whole model"));
  for (const char* name : {"checkpoint-9", "checkpoint-20", "checkpoint-30"}) {
    fs::create_directory(dir_ / name);
  }
  for (const char* name : {"checkpoint-9", "checkpoint-20"}) {
    std::ofstream(dir_ / name / "adapter_config.json") << config;
  }
  EXPECT_THAT(action(), HasSubstr("checkpoint-20 in it"));
}

}  // namespace
}  // namespace liger::trainer
