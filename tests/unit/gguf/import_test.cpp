// Folders out of GGUF files: weights and tokenizers as the originals'.
#include "worker/trainer/gguf/import.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "liger/sentencepiece/model.pb.h"
#include "tests/paths.h"
#include "tests/unit/gguf/gguf_builder.h"
#include "tests/unit/text/corpus.h"
#include "worker/trainer/checkpoint/sha256.h"
#include "worker/trainer/checkpoint/weights.h"
#include "worker/trainer/error.h"
#include "worker/trainer/models/model_config.h"
#include "worker/trainer/text/tokenizer.h"

namespace liger::trainer {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

class ImportTest : public testing::Test {
 protected:
  ImportTest() { fs::create_directories(dir_); }
  ~ImportTest() override { fs::remove_all(dir_); }

  std::string Out() const { return (dir_ / "out").string(); }

  void Import(const std::string& bytes, const std::string& tokenizer_dir = "") const {
    std::ofstream(dir_ / "model.gguf", std::ios::binary) << bytes;
    ImportFile(dir_ / "model.gguf", tokenizer_dir);
  }
  void ImportFile(const std::string& file, const std::string& tokenizer_dir = "") const {
    fs::remove_all(Out());
    std::ostringstream said;
    ImportGguf({file, Out(), tokenizer_dir, "bfloat16"}, said);
    EXPECT_THAT(said.str(), HasSubstr(Out()));
  }
  // With what to do about it.
  std::string Error(const std::string& bytes) const {
    try {
      Import(bytes);
    } catch (const TrainerError& error) {
      EXPECT_FALSE(fs::exists(Out())) << "a folder was left behind";
      return std::string(error.what()) + "; " + error.failure().action();
    }
    return "no error";
  }

  // A golden tokenizer of the pipeline Digits and ByteLevel, without the former.
  std::string WithoutDigitSplitting(const std::string& name) const {
    auto json =
        nlohmann::json::parse(ReadAll(GoldenDir() + "/tokenizers/" + name + "/tokenizer.json"));
    json["pre_tokenizer"] = json.at("pre_tokenizer").at("pretokenizers").at(1);
    EXPECT_EQ(json["pre_tokenizer"].at("type"), "ByteLevel");
    fs::create_directories(dir_ / "undivided");
    std::ofstream(dir_ / "undivided/tokenizer.json") << json;
    return dir_ / "undivided";
  }

  void ExpectSameIds(const std::string& original) const {
    const auto expected = Tokenizer::FromFolder(original), actual = Tokenizer::FromFolder(Out());
    std::vector<std::string> texts = DataStrings();
    texts.resize(std::min<size_t>(texts.size(), 400));
    for (const auto& row : ReadJsonLines(GoldenDir() + "/fuzz_strings.jsonl")) {
      AppendStrings(row, &texts);
    }
    for (const std::string& text : texts) {
      EXPECT_EQ(actual->Encode(text, true), expected->Encode(text, true)) << text;
    }
  }

  const fs::path dir_ = fs::path(testing::TempDir()) / ("import-" + std::to_string(getpid()));
};

GgufBuilder WithByteTokens(GgufBuilder file) {
  return file.Text("tokenizer.ggml.model", "gpt2")
      .Text("tokenizer.ggml.pre", "gpt-2")
      .Texts("tokenizer.ggml.tokens", {"a", "b", "ab"})
      .Texts("tokenizer.ggml.merges", {"a b"});
}

TEST_F(ImportTest, WeightsAreThoseOfTransformers) {
  const std::string golden = SourceDir() + "/tests/golden/gguf/";
  ImportFile(golden + "tiny.gguf");
  const auto expected = nlohmann::json::parse(ReadAll(golden + "expected.json")).at("folder");
  const WeightReader weights = WeightReader::Open(Out());
  EXPECT_EQ(weights.tensors().size(), expected.size());
  for (const auto& [name, digest] : expected.items()) {
    const at::Tensor weight = weights.View(name).contiguous();
    EXPECT_EQ(weight.scalar_type(), at::kBFloat16);
    Sha256 sha256;
    sha256.Update({static_cast<const char*>(weight.const_data_ptr()), weight.nbytes()});
    EXPECT_EQ(sha256.Hex(), digest.get<std::string>()) << name;
  }
  const ModelConfig config = ModelConfig::FromFolder(Out());
  EXPECT_EQ(config.rms_norm_eps, 1e-5);
  EXPECT_EQ(config.rope.theta, 100000);
  EXPECT_FALSE(config.tie_word_embeddings);
  EXPECT_EQ(ReadAll(Out() + "/chat_template.jinja"),
            "{% for m in messages %}{{ m['content'] }}{% endfor %}");
  const auto tokenizer = Tokenizer::FromFolder(Out());
  EXPECT_EQ(tokenizer->bos_id(), 1);
  EXPECT_EQ(tokenizer->eos_id(), 2);
}

TEST_F(ImportTest, ByteLevelTokenizersAreTheOriginals) {
  // The golden gpt2 puts a space before a text, which a GGUF cannot say.
  const std::string gpt2 = WithoutDigitSplitting("digits");
  const std::string golden = GoldenDir() + "/tokenizers/";
  for (const auto& [original, pre] :
       {std::pair(gpt2, "gpt-2"), std::pair(golden + "smollm2", "smollm"),
        std::pair(golden + "digits", "smollm"), std::pair(golden + "llama3", "llama-bpe")}) {
    const auto json = nlohmann::json::parse(ReadAll(original + "/tokenizer.json"));
    std::map<int64_t, std::string> by_id;
    for (const auto& [token, id] : json["model"]["vocab"].items()) by_id[id] = token;
    std::set<int64_t> special;
    for (const auto& added : json["added_tokens"]) {
      by_id[added["id"]] = added["content"];
      special.insert(added["id"].get<int64_t>());
    }
    std::vector<std::string> tokens, merges;
    std::vector<int32_t> types;
    for (const auto& [id, token] : by_id) {
      ASSERT_EQ(id, static_cast<int64_t>(tokens.size())) << original << " has holes";
      tokens.push_back(token);
      types.push_back(special.contains(id) ? 3 : 1);
    }
    for (const auto& merge : json["model"]["merges"]) {
      merges.push_back(merge.is_string()
                           ? merge.get<std::string>()
                           : merge[0].get<std::string>() + " " + merge[1].get<std::string>());
    }
    GgufBuilder file = SmallLlama(tokens.size());
    file.Text("tokenizer.ggml.model", "gpt2")
        .Text("tokenizer.ggml.pre", pre)
        .Texts("tokenizer.ggml.tokens", tokens)
        .Ints("tokenizer.ggml.token_type", types)
        .Texts("tokenizer.ggml.merges", merges);
    // The framing is the file's to say: the golden ones have none, or Llama 3's.
    const auto framed = Tokenizer::FromFolder(original)->Encode("", true);
    if (!framed.empty()) file.Uint("tokenizer.ggml.bos_token_id", framed[0]);
    file.Bool("tokenizer.ggml.add_bos_token", !framed.empty());
    Import(file.Bytes());
    ExpectSameIds(original);
  }
}

TEST_F(ImportTest, SentencePieceTokenizersAreTheOriginals) {
  const std::string original = GoldenDir() + "/tokenizers/spm_mistral";
  sentencepiece::Model model;
  ASSERT_TRUE(model.ParseFromString(ReadAll(original + "/tokenizer.model")));
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<int32_t> types;
  for (const auto& piece : model.pieces()) {
    tokens.push_back(piece.piece());
    scores.push_back(piece.score());
    types.push_back(piece.type());
  }
  Import(SmallLlama(tokens.size())
             .Text("tokenizer.ggml.model", "llama")
             .Texts("tokenizer.ggml.tokens", tokens)
             .Floats("tokenizer.ggml.scores", scores)
             .Ints("tokenizer.ggml.token_type", types)
             .Uint("tokenizer.ggml.bos_token_id", 1)
             .Uint("tokenizer.ggml.eos_token_id", 2)
             .Uint("tokenizer.ggml.unknown_token_id", 0)
             .Bytes());
  ExpectSameIds(original);
}

TEST_F(ImportTest, ATokenizerFolderStandsInForTheFilesOwn) {
  Import(SmallLlama(49152).Text("tokenizer.ggml.pre", "unheard-of").Bytes(),
         GoldenDir() + "/tokenizers/smollm2");
  ExpectSameIds(GoldenDir() + "/tokenizers/smollm2");
}

// rope_freqs.weight stands for Llama 3.1's scaling, by factor 8 or 32.
TEST_F(ImportTest, Llama3ScalingComesBack) {
  const auto scaled = [](const std::string& factors) {
    return WithByteTokens(SmallLlama(3))
        .Float("llama.rope.freq_base", 500000)
        .Tensor("rope_freqs.weight", {8}, 0, factors)
        .Bytes();
  };
  // Head dimension 16: the first four wavelengths are below 2048, the fifth is between
  // the bounds, the others are above 8192.
  std::string factors;
  for (const double factor : {1.0, 1.0, 1.0, 1.0, 3.2922621, 32.0, 32.0, 32.0}) {
    factors += Little(static_cast<float>(factor));
  }
  Import(scaled(factors));
  const ModelConfig config = ModelConfig::FromFolder(Out());
  EXPECT_EQ(config.rope.type, RopeConfig::Type::kLlama3);
  EXPECT_EQ(config.rope.factor, 32);
  factors.replace(0, 4, Little(2.0f));
  EXPECT_THAT(Error(scaled(factors)), HasSubstr("rope_freqs.weight"));
}

// The keys that llama.cpp reads.
TEST_F(ImportTest, RopeScalingIsTheFilesOwn) {
  const auto rope = [&](GgufBuilder file) {
    Import(file.Bytes());
    return ModelConfig::FromFolder(Out()).rope;
  };
  const auto small = [] { return WithByteTokens(SmallLlama(3)); };
  const auto yarn = [&] {
    return small()
        .Text("llama.rope.scaling.type", "yarn")
        .Float("llama.rope.scaling.factor", 4)
        .Uint("llama.rope.scaling.original_context_length", 128);
  };
  EXPECT_EQ(rope(small()).type, RopeConfig::Type::kDefault);
  EXPECT_EQ(rope(small().Float("llama.rope.scale_linear", 4)).type, RopeConfig::Type::kLinear);
  EXPECT_EQ(rope(small().Float("llama.rope.scale_linear", 4)).factor, 4);
  EXPECT_EQ(rope(small().Float("llama.rope.scale_linear", 1)).type, RopeConfig::Type::kDefault);
  EXPECT_EQ(rope(small().Float("llama.rope.scaling.factor", 2)).factor, 2);
  EXPECT_EQ(rope(yarn()).beta_fast, 32);
  EXPECT_EQ(rope(yarn().Float("llama.rope.scaling.yarn_beta_fast", 8)).beta_fast, 8);
  EXPECT_EQ(rope(yarn().Float("llama.rope.scaling.yarn_attn_factor", 1)).factor, 4);
  for (const char* key : {"rope.scaling.attn_factor", "rope.scaling.yarn_attn_factor",
                          "rope.scaling.yarn_ext_factor", "rope.scaling.yarn_log_multiplier",
                          "logit_scale"}) {
    EXPECT_THAT(Error(yarn().Float("llama." + std::string(key), 0.5).Bytes()),
                AllOf(HasSubstr(std::string(key) + " is 0.5, which is not implemented"),
                      HasSubstr("Use the model's Hugging Face folder")));
  }
  EXPECT_THAT(Error(small().Uint("llama.attention.sliding_window", 16).Bytes()),
              AllOf(HasSubstr("attention.sliding_window is 16"), HasSubstr("Hugging Face folder")));
  EXPECT_THAT(Error(small().Constant("blk.0.attn_q.bias", {32}, 1).Bytes()),
              AllOf(HasSubstr("biases for q, k and v"), HasSubstr("Hugging Face folder")));
}

TEST_F(ImportTest, NamedChatTemplatesComeAlong) {
  const auto named = [](const char* name) {
    return WithByteTokens(SmallLlama(3))
        .Text("tokenizer.chat_template", "plain")
        .Texts("tokenizer.chat_templates", {name})
        .Text("tokenizer.chat_template." + std::string(name), "tools")
        .Bytes();
  };
  Import(named("tool_use"));
  EXPECT_EQ(ReadAll(Out() + "/chat_template.jinja"), "plain");
  EXPECT_EQ(ReadAll(Out() + "/additional_chat_templates/tool_use.jinja"), "tools");
  EXPECT_THAT(Error(named("../x")), HasSubstr("no file name"));
}

TEST_F(ImportTest, WhatDoesNotFitIsRefusedByName) {
  const auto small = [] { return WithByteTokens(SmallLlama(3)); };
  EXPECT_EQ(Error(small().Bytes()), "no error");
  EXPECT_THAT(Error(small().Constant("blk.1.attn_q.weight", {32, 32}, 1).Bytes()),
              HasSubstr("blk.1.attn_q.weight"));
  EXPECT_THAT(Error(small().Constant("ssm.weight", {32}, 1).Bytes()), HasSubstr("ssm.weight"));
  EXPECT_THAT(Error(WithByteTokens(SmallLlama(3)).Uint("llama.expert_count", 8).Bytes()),
              AllOf(HasSubstr("llama.expert_count asks for a mixture of experts"),
                    HasSubstr("Use the model's Hugging Face folder")));
  EXPECT_THAT(Error(GgufBuilder().Text("general.architecture", "mamba").Bytes()),
              AllOf(HasSubstr("general.architecture is 'mamba'; only llama's files"),
                    HasSubstr("Use the model's Hugging Face folder")));
  EXPECT_THAT(Error(GgufBuilder().Text("general.architecture", "llama").Bytes()),
              HasSubstr("is missing"));
  EXPECT_THAT(Error(small().Uint("llama.attention.head_count_kv", 1).Bytes()),
              HasSubstr("blk.0.attn_k.weight is [32, 32], not [16, 32]"));
  EXPECT_THAT(Error(SmallLlama(3).Bytes()), HasSubstr("tokenizer.ggml.tokens"));
  EXPECT_THAT(Error(SmallLlama(3)
                        .Text("tokenizer.ggml.model", "gpt2")
                        .Text("tokenizer.ggml.pre", "unheard-of")
                        .Texts("tokenizer.ggml.tokens", {"a", "b", "ab"})
                        .Texts("tokenizer.ggml.merges", {"a b"})
                        .Bytes()),
              HasSubstr("tokenizer.ggml.pre is 'unheard-of'"));
  EXPECT_THAT(Error(SmallLlama(2)
                        .Text("tokenizer.ggml.model", "gpt2")
                        .Text("tokenizer.ggml.pre", "gpt-2")
                        .Texts("tokenizer.ggml.tokens", {"a", "b"})
                        .Texts("tokenizer.ggml.merges", {"a b"})
                        .Bytes()),
              HasSubstr("tokenizer.ggml.merges has 'a b'"));
}

}  // namespace
}  // namespace liger::trainer
