#include "worker/trainer/models/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "worker/trainer/error.h"
#include "worker/trainer/models/kernel_choice.h"

namespace liger::trainer {
namespace {

using nlohmann::json;
using testing::HasSubstr;

json Minimal() {
  return json::parse(R"({"model_type": "llama", "vocab_size": 100, "hidden_size": 64,
    "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4})");
}

ModelConfig Parse(const json& patch) {
  json config = Minimal();
  for (const auto& [key, value] : patch.items()) config[key] = value;
  return ModelConfig::FromJson(config, "m/config.json");
}

TEST(ModelConfigTest, FillsTransformersDefaults) {
  const ModelConfig c = Parse(json::object());
  EXPECT_EQ(c.num_key_value_heads, 4);
  EXPECT_EQ(c.head_dim, 16);
  EXPECT_EQ(c.rms_norm_eps, 1e-6);
  EXPECT_EQ(c.rope.theta, 10000.0);
  EXPECT_EQ(c.rope.type, RopeConfig::Type::kDefault);
  EXPECT_FALSE(c.tie_word_embeddings);
}

TEST(ModelConfigTest, ReadsBothSpellingsOfRope) {
  const json llama3 = json::parse(R"({"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 8192})");
  json v5 = llama3;
  v5["rope_theta"] = 500000.0;
  for (const json& patch :
       {json{{"rope_theta", 500000.0}, {"rope_scaling", llama3}}, json{{"rope_parameters", v5}}}) {
    const ModelConfig c = Parse(patch);
    EXPECT_EQ(c.rope.type, RopeConfig::Type::kLlama3);
    EXPECT_EQ(c.rope.theta, 500000.0);
    EXPECT_EQ(c.rope.factor, 32.0);
    EXPECT_EQ(c.rope.original_max_position_embeddings, 8192);
  }
}

// As transformers: `rope_scaling or rope_parameters`.
TEST(ModelConfigTest, RopeScalingWinsOverRopeParametersUnlessEmpty) {
  json both = json::parse(R"({"rope_theta": 7.0, "rope_parameters": {"rope_theta": 500000.0},
    "rope_scaling": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
                     "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}})");
  EXPECT_EQ(Parse(both).rope.type, RopeConfig::Type::kLlama3);
  EXPECT_EQ(Parse(both).rope.theta, 7.0);
  for (const json& none : {json(nullptr), json::object()}) {
    both["rope_scaling"] = none;
    EXPECT_EQ(Parse(both).rope.type, RopeConfig::Type::kDefault);
    EXPECT_EQ(Parse(both).rope.theta, 500000.0);
  }
}

TEST(ModelConfigTest, NullsAndNeutralValuesAreAccepted) {
  Parse(json::parse(R"({"rope_scaling": null, "sliding_window": null, "quantization_config": null,
    "pretraining_tp": 1, "hidden_act": "silu", "attention_dropout": 0, "rope_interleaved": false,
    "head_dim": null, "layer_types": ["full_attention", "full_attention"], "is_llama_config": true,
    "transformers.js_config": {"dtype": "q4"}})"));
}

TEST(ModelConfigTest, EosIsOneIdOrAList) {
  EXPECT_THAT(Parse({{"eos_token_id", 7}}).eos_token_ids, testing::ElementsAre(7));
  EXPECT_THAT(Parse({{"eos_token_id", {7, 9}}}).eos_token_ids, testing::ElementsAre(7, 9));
  EXPECT_THAT(Parse({{"eos_token_id", nullptr}}).eos_token_ids, testing::IsEmpty());
}

TEST(ModelConfigTest, PadIsAnIdOfTheVocabularyOrNone) {
  EXPECT_EQ(Parse({{"pad_token_id", 99}}).pad_token_id, 99);
  EXPECT_EQ(Parse({{"pad_token_id", -1}}).pad_token_id, 99);
  EXPECT_EQ(Parse({{"pad_token_id", nullptr}}).pad_token_id, std::nullopt);
  EXPECT_EQ(Parse(json::object()).pad_token_id, std::nullopt);
}

struct Refused {
  const char* patch;
  const char* field;
};

class RefusedTest : public testing::TestWithParam<Refused> {};

TEST_P(RefusedTest, ByNameOfTheKey) {
  try {
    Parse(json::parse(GetParam().patch));
    FAIL() << "accepted " << GetParam().patch;
  } catch (const TrainerError& error) {
    EXPECT_EQ(error.failure().class_(), liger::v1::FAILURE_CLASS_CONFIG);
    EXPECT_EQ(error.failure().field(), GetParam().field);
    EXPECT_THAT(error.what(), HasSubstr(GetParam().field));
    EXPECT_FALSE(error.failure().action().empty());
  }
}

INSTANTIATE_TEST_SUITE_P(
    Features, RefusedTest,
    testing::Values(
        Refused{R"({"model_type": "mamba"})", "model_type"},
        Refused{R"({"model_type": 3})", "model_type"},
        Refused{R"({"hidden_act": "relu2"})", "hidden_act"},
        Refused{R"({"attention_dropout": 0.1})", "attention_dropout"},
        Refused{R"({"sliding_window": 4096})", "sliding_window"},
        Refused{R"({"quantization_config": {"bits": 4}})", "quantization_config"},
        Refused{R"({"layer_types": ["sliding_attention"]})", "layer_types"},
        Refused{R"({"rope_scaling": {"type": "mrope", "factor": 2.0}})", "rope_scaling.type"},
        Refused{R"({"rope_scaling": {"rope_type": "yarn"}})", "rope_scaling.factor"},
        Refused{R"({"rope_parameters": {"rope_type": "dynamic"}})", "rope_parameters.factor"},
        Refused{
            R"({"rope_parameters": {"rope_type": "longrope",
                    "long_factor": [1, 1, 1, 1, 1, 1, 1, 1], "short_factor": [1, 1]}})",
            "rope_parameters.short_factor"},
        Refused{
            R"({"model_type": "mixtral", "num_key_value_heads": 2, "router_aux_loss_coef": -0.1})",
            "router_aux_loss_coef"},
        Refused{R"({"model_type": "mixtral", "num_key_value_heads": 2, "num_local_experts": 2,
                    "num_experts_per_tok": 3})",
                "num_experts_per_tok"},
        Refused{R"({"model_type": "mistral", "num_key_value_heads": 2, "attention_bias": true})",
                "attention_bias"},
        Refused{R"({"model_type": "phi3", "partial_rotary_factor": 0.2})", "partial_rotary_factor"},
        Refused{R"({"model_type": "phi3", "pad_token_id": null, "resid_pdrop": 0.1})",
                "resid_pdrop"},
        Refused{R"({"model_type": "phi3"})", "pad_token_id"},  // 32000 of 100
        Refused{R"({"model_type": "mixtral", "num_key_value_heads": 2, "intermediate_size": 30})",
                "intermediate_size"},
        Refused{R"({"model_type": "gemma2", "layer_types": ["full_attention"]})", "layer_types"},
        Refused{
            R"({"model_type": "gemma", "num_key_value_heads": 2,
                "use_bidirectional_attention": true})",
            "use_bidirectional_attention"},
        Refused{R"({"rope_parameters": {"rope_type": "default", "mrope_section": [1]}})",
                "rope_parameters.mrope_section"},
        Refused{R"({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}})",
                "rope_parameters.factor"},
        Refused{R"({"rope_scaling": 2.0})", "rope_scaling"},
        Refused{R"({"partial_rotary_factor": 0.5})", "partial_rotary_factor"},
        Refused{R"({"vocab_size": null})", "vocab_size"},
        Refused{R"({"vocab_size": "100"})", "vocab_size"},
        Refused{R"({"num_hidden_layers": -1})", "num_hidden_layers"},
        Refused{R"({"num_hidden_layers": 1025})", "num_hidden_layers"},
        Refused{R"({"hidden_size": 67108864, "vocab_size": 67108864})", "hidden_size"},
        Refused{R"({"num_hidden_layers": 18446744073709551615})", "num_hidden_layers"},
        Refused{R"({"num_attention_heads": 5})", "hidden_size"},
        Refused{R"({"num_key_value_heads": 3})", "num_attention_heads"},
        Refused{R"({"head_dim": 15})", "head_dim"},
        Refused{R"({"rms_norm_eps": 0})", "rms_norm_eps"},
        Refused{R"({"tie_word_embeddings": "yes"})", "tie_word_embeddings"},
        Refused{R"({"eos_token_id": ["</s>"]})", "eos_token_id"},
        Refused{R"({"pad_token_id": -101})", "pad_token_id"},
        Refused{R"({"pad_token_id": 100})", "pad_token_id"},
        Refused{R"({"pad_token_id": [0]})", "pad_token_id"}));

ModelConfig ParseType(const std::string& type, json patch) {
  patch["model_type"] = type;
  return Parse(patch);
}

// transformers leaves keys out of config.json, and then the family decides.
TEST(ModelConfigTest, AbsentKeysMeanWhatTheFamilySays) {
  const json few = {{"num_attention_heads", 32}, {"hidden_size", 128}};
  EXPECT_EQ(ParseType("llama", few).num_key_value_heads, 32);
  EXPECT_EQ(ParseType("mistral", few).num_key_value_heads, 8);
  EXPECT_EQ(ParseType("gemma2", few).num_key_value_heads, 4);
  EXPECT_EQ(ParseType("gemma2", few).head_dim, 256);
  EXPECT_EQ(ParseType("phi3", {{"vocab_size", 32064}}).pad_token_id, 32000);
  EXPECT_EQ(ParseType("phi3", {{"pad_token_id", nullptr}}).pad_token_id, std::nullopt);
  EXPECT_TRUE(ParseType("gemma", few).tie_word_embeddings);
  EXPECT_FALSE(ParseType("qwen2", few).tie_word_embeddings);
  EXPECT_EQ(ParseType("mixtral", few).rope.theta, 1e6);
  EXPECT_EQ(ParseType("mistral", few).sliding_windows, (std::vector<int64_t>{4096, 4096}));
  EXPECT_EQ(ParseType("gemma2", few).sliding_windows, (std::vector<int64_t>{4096, 0}));
  EXPECT_EQ(ParseType("qwen2", few).sliding_windows, (std::vector<int64_t>{0, 0}));
  json sliding = few;
  sliding["use_sliding_window"] = true;
  sliding["max_window_layers"] = 1;
  EXPECT_EQ(ParseType("qwen3", sliding).sliding_windows, (std::vector<int64_t>{0, 4096}));
}

TEST(ModelConfigTest, GeluMeansTanhInGemma) {
  const json gelu = {{"hidden_act", "gelu"}, {"num_key_value_heads", 2}};
  EXPECT_EQ(ParseType("gemma", gelu).activation, Activation::kGeluTanh);
  EXPECT_EQ(ParseType("llama", gelu).activation, Activation::kGelu);
}

TEST(ModelConfigTest, PhiCallsLongRopeSuAndYarn) {
  const std::vector<double> ones(8, 1.0);
  for (const char* type : {"su", "yarn", "longrope"}) {
    const json scaling = {{"type", type}, {"short_factor", ones}, {"long_factor", ones}};
    const ModelConfig c = ParseType("phi3", {{"pad_token_id", nullptr},
                                             {"max_position_embeddings", 131072},
                                             {"original_max_position_embeddings", 4096},
                                             {"rope_scaling", scaling}});
    EXPECT_EQ(c.rope.type, RopeConfig::Type::kLongRope);
    EXPECT_NEAR(c.rope.attention_factor, 1.1902380714238083, 1e-12);
  }
}

TEST(KernelChoiceTest, ModeThenSwitches) {
  const KernelChoice all;
  liger::v1::KernelSpec spec;
  EXPECT_EQ(KernelChoice::FromSpec(spec, all), all);
  spec.set_rope(false);
  KernelChoice expected = all;
  expected.rope = false;
  EXPECT_EQ(KernelChoice::FromSpec(spec, all), expected);
  spec.set_mode(liger::v1::KERNEL_MODE_BASELINE);
  spec.set_swiglu(true);
  expected = KernelChoice::Baseline();
  expected.swiglu = true;
  EXPECT_EQ(KernelChoice::FromSpec(spec, all), expected);
}

}  // namespace
}  // namespace liger::trainer
