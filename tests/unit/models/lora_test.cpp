// LoRA against PEFT in fp32 (tools/fixtures/lora_fixtures.py).
#include "worker/trainer/models/lora.h"

#include <ATen/CPUGeneratorImpl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/unit/models/lora_cases.h"
#include "worker/trainer/checkpoint/adapter_folder.h"
#include "worker/trainer/loop/lora_setup.h"
#include "worker/trainer/loop/model_setup.h"
#include "worker/trainer/models/activation_checkpoint.h"
#include "worker/trainer/objectives/sft.h"
#include "worker/trainer/objectives/token_logprobs.h"

namespace liger::trainer {
namespace {

using testing::HasSubstr;

constexpr double kTolerance = 1e-5, kCurveTolerance = 1e-4;
constexpr const char* kCases[] = {"plain",    "rslora", "dora",   "modules_to_save", "tied_head",
                                  "patterns", "phi3",   "gemma2", "mixtral"};

struct Case {
  std::string name, kernels;
};

// A base model with the adapter of a PEFT folder.
struct Adapted {
  std::shared_ptr<CausalLM> model;
  LoraSetup lora;

  Adapted(const std::string& base, const std::string& kernels, const std::string& adapter_dir)
      : model(golden::LoadModel(golden::Folder("tiny/" + base), kernels)),
        lora(LoraSetup::Find({}, adapter_dir, *model)) {
    lora.Attach(*model, at::kFloat, /*seed=*/0);
    model->train();
  }
};

class LoraGoldenTest : public testing::TestWithParam<Case> {
 protected:
  LoraGoldenTest()
      : folder_(golden::Folder("lora/" + GetParam().name)),
        expected_(golden::ReadJson(folder_ + "/expected.json")),
        tensors_(SafetensorsFile::Open(folder_ + "/expected.safetensors")) {
    for (const auto& rows : expected_.at("sft_batches")) {
      batches_.push_back(golden::SftBatch(rows));
    }
  }

  Adapted Load() const {
    return Adapted(expected_.at("base"), GetParam().kernels, AdapterDir(GetParam().name));
  }
  at::Tensor Logits(CausalLM& model) const {
    const at::NoGradGuard no_grad;
    return model.Logits(model.Hidden(ToModelInput(batches_[0], model)));
  }
  double ErrorOf(const at::Tensor& actual, const std::string& name) const {
    return golden::RelativeError(actual, tensors_->View(name));
  }
  std::vector<double> TenSteps(CausalLM& model) const {
    SftObjective objective;
    std::vector<double> losses;
    for (const auto& metrics : golden::Train(objective, model, batches_, expected_.at("lr"))) {
      losses.push_back(metrics.at("loss"));
    }
    return losses;
  }

  std::string folder_;
  nlohmann::json expected_;
  std::shared_ptr<const SafetensorsFile> tensors_;
  std::vector<Batch> batches_;
};

TEST_P(LoraGoldenTest, OutputsAndGradientsOfTheFirstStep) {
  const Adapted adapted = Load();
  EXPECT_LT(ErrorOf(Logits(*adapted.model), "logits"), kTolerance);

  SftObjective objective;
  const LossOutput out = golden::WholeStep(objective, *adapted.model, batches_[0]);
  const double loss = expected_.at("losses")[0];
  EXPECT_NEAR(out.loss.item<double>(), loss, kTolerance * loss);
  out.loss.backward();
  size_t trained = 0;
  for (const auto& item : adapted.model->named_parameters()) {
    const std::string name = "grad." + (kAdapterPrefix + item.key());
    if (!item.value().requires_grad()) {
      EXPECT_FALSE(item.value().grad().defined()) << name;
      EXPECT_FALSE(tensors_->tensors().contains(name)) << name;
      continue;
    }
    ++trained;
    ASSERT_TRUE(tensors_->tensors().contains(name)) << name;
    EXPECT_LT(ErrorOf(item.value().grad(), name), kTolerance) << name;
  }
  const size_t others = 3;  // logits, trained_logits, merged_logits
  EXPECT_EQ(trained, tensors_->tensors().size() - others);
}

TEST_P(LoraGoldenTest, TenStepsThenMerge) {
  const Adapted adapted = Load();
  const auto frozen = adapted.model->named_parameters();
  const auto base = golden::LoadModel(
      golden::Folder("tiny/" + expected_.at("base").get<std::string>()), GetParam().kernels);
  const std::vector<double> losses = TenSteps(*adapted.model);
  for (size_t i = 0; i < losses.size(); ++i) {
    const double loss = expected_.at("losses")[i];
    EXPECT_NEAR(losses[i], loss, kCurveTolerance * loss) << "step " << i + 1;
  }
  EXPECT_LT(ErrorOf(Logits(*adapted.model), "trained_logits"), kCurveTolerance);
  for (const auto& item : base->named_parameters()) {
    if (frozen[item.key()].requires_grad()) continue;
    EXPECT_TRUE(at::equal(frozen[item.key()], item.value())) << item.key();
  }

  const at::NoGradGuard no_grad;
  const at::Tensor before = Logits(*adapted.model);
  std::vector<NamedTensor> stored;
  for (const auto& [name, leaf] : NamedLeaves(*adapted.model)) stored.push_back({name, leaf});
  for (const NamedTensor& merged : adapted.lora.Merged(stored)) {
    base->named_parameters()[merged.name].copy_(merged.Value());
  }
  EXPECT_LT(golden::RelativeError(Logits(*base), before), kTolerance);
  EXPECT_LT(ErrorOf(Logits(*base), "merged_logits"), kCurveTolerance);
}

TEST_P(LoraGoldenTest, ActivationCheckpointingChangesNothing) {
  const Adapted plain = Load();
  const auto expected = TenSteps(*plain.model);
  for (const bool keep : {false, true}) {
    const Adapted checkpointed = Load();
    ApplyActivationCheckpointing(*checkpointed.model, {.keep_attention = keep, .offload = keep});
    EXPECT_EQ(TenSteps(*checkpointed.model), expected) << "keep " << keep;
  }
}

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const char* name : kCases) {
    for (const char* kernels : {"LIGER", "BASELINE"}) cases.push_back({name, kernels});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Cases, LoraGoldenTest, testing::ValuesIn(Cases()), [](const auto& info) {
  return info.param.name + "_" + info.param.kernels;
});

// ---- adapters that start here ----

AdapterConfig Targeting(std::vector<std::string> targets, std::vector<std::string> save = {}) {
  AdapterConfig config;
  config.target_modules = std::move(targets);
  config.modules_to_save = std::move(save);
  return config;
}

TEST(LoraTargetsTest, AllLinearIsEveryLinearLayerButTheHead) {
  const auto names = [](const std::string& tiny) {
    const AdapterConfig config = Targeting({kAllLinear});
    return LoraTargets::Find(*Meta(tiny), config).NamesForConfig(config);
  };
  EXPECT_EQ(names("mha_untied_hub"),
            (std::vector<std::string>{"down_proj", "gate_proj", "k_proj", "o_proj", "q_proj",
                                      "up_proj", "v_proj"}));
  EXPECT_EQ(names("phi3_longrope_hub"),
            (std::vector<std::string>{"down_proj", "gate_up_proj", "o_proj", "qkv_proj"}));
  // The experts and their router are no linear layers.
  EXPECT_EQ(names("mixtral_v5"),
            (std::vector<std::string>{"k_proj", "o_proj", "q_proj", "v_proj"}));
}

TEST(LoraTargetsTest, ByTheEndOfTheName) {
  const auto model = Meta("mha_untied_hub");
  const LoraTargets targets = LoraTargets::Find(
      *model, Targeting({"layers.1.mlp.up_proj", "o_proj"}, {"layers.0.self_attn"}));
  std::vector<std::string> names;
  for (const auto& layer : targets.layers) names.push_back(layer.name);
  EXPECT_EQ(names, (std::vector<std::string>{"model.layers.1.self_attn.o_proj",
                                             "model.layers.1.mlp.up_proj"}));
  EXPECT_TRUE(targets.saved.contains("model.layers.0.self_attn.o_proj.weight"));
  EXPECT_EQ(targets.saved.size(), 4u);
  const int64_t attention =
      model->named_parameters()["model.layers.0.self_attn.q_proj.weight"].numel();
  EXPECT_GT(TrainableNumel(*model, targets), 4 * attention);
}

TEST(LoraTargetsTest, WhatMatchesNothingIsNamed) {
  const auto error = [](const std::string& tiny, std::vector<std::string> targets,
                        std::vector<std::string> save = {}) {
    return ErrorText([&] { LoraTargets::Find(*Meta(tiny), Targeting(targets, save)); });
  };
  EXPECT_THAT(error("gqa_tied_v5", {"q_proj", "query"}),
              testing::AllOf(HasSubstr("lora.target_modules|"), HasSubstr("'query'"),
                             HasSubstr("q_proj, up_proj, v_proj")));
  EXPECT_THAT(error("gqa_tied_v5", {"proj"}), HasSubstr("'proj' is the end of no layer's name"));
  EXPECT_THAT(error("gqa_tied_v5", {"qproj"}), HasSubstr("; did you mean 'q_proj'?"));
  EXPECT_THAT(error("gqa_tied_v5", {"all_linear"}), HasSubstr("; did you mean 'all-linear'?"));
  EXPECT_THAT(error("gqa_tied_v5", {"layers.0.mlp.upproj"}),
              HasSubstr("; did you mean 'layers.0.mlp.up_proj'?"));
  EXPECT_THAT(error("gqa_tied_v5", {"embed_tokens"}), HasSubstr("no linear layer"));
  EXPECT_THAT(error("mha_untied_hub", {"lm_head"}), HasSubstr("the head"));
  EXPECT_THAT(error("mixtral_v5", {"experts"}), HasSubstr("no linear layer"));
  EXPECT_THAT(error("mixtral_v5", {"w1"}), HasSubstr("'w1' is the end of no layer's name"));
  EXPECT_THAT(error("gqa_tied_v5", {"q_proj"}, {"head"}), HasSubstr("no error"));
  EXPECT_THAT(error("gqa_tied_v5", {"q_proj"}, {"score"}),
              HasSubstr("lora.modules_to_save|lora.modules_to_save: 'score'"));
  EXPECT_THAT(error("gqa_tied_v5", {"q_proj"}, {"self_attn"}), HasSubstr("leaves no layer"));
}

TEST(LoraTargetsTest, AFolderForAnotherModelIsRefused) {
  const auto error = [](const std::string& tiny, const std::string& adapter) {
    return ErrorText([&] { LoraSetup::Find({}, AdapterDir(adapter), *Meta(tiny)); });
  };
  EXPECT_EQ(error("gqa_tied_v5", "plain"), "no error");
  EXPECT_THAT(
      error("mha_untied_hub", "plain"),
      testing::AllOf(HasSubstr("lora.adapter_uri|"), HasSubstr("does not fit the model"),
                     HasSubstr("k_proj.lora_B.weight is [16, 4] and the model's is [32, 4]")));
  EXPECT_THAT(error("phi3_longrope_hub", "plain"), HasSubstr("unknown to the model"));
  EXPECT_THAT(error("gqa_tied_v5", "modules_to_save"), HasSubstr("ensure_weight_tying"));
}

TEST(LoraLayerTest, ANewAdapterChangesNothingAndIsDrawnFromTheSeed) {
  for (const bool dora : {false, true}) {
    const std::string folder = golden::Folder("tiny/mqa_head_dim_bias_v5");
    const Batch batch =
        golden::SftBatch(golden::ReadJson(folder + "/expected.json")["sft_batches"][0]);
    const auto logits = [&](CausalLM& model) {
      const at::NoGradGuard no_grad;
      return model.Logits(model.Hidden(ToModelInput(batch, model)));
    };
    const auto make = [&](uint64_t seed) {
      const auto model = golden::LoadModel(folder, "LIGER");
      AdapterConfig config = Targeting({kAllLinear});
      config.use_dora = dora;
      const LoraTargets targets = LoraTargets::Find(*model, config);
      AttachAdapters(*model, targets, at::kFloat);
      InitializeAdapters(targets, seed);
      InitializeMagnitudes(targets);
      return model;
    };
    const auto one = make(1), same = make(1), other = make(2);
    EXPECT_LT(golden::RelativeError(logits(*one), logits(*golden::LoadModel(folder, "LIGER"))),
              1e-6);
    const std::string a = "model.layers.0.mlp.down_proj.lora_A.weight";
    EXPECT_TRUE(at::equal(one->named_parameters()[a], same->named_parameters()[a]));
    EXPECT_FALSE(at::equal(one->named_parameters()[a], other->named_parameters()[a]));
    const double bound = 1 / std::sqrt(double(one->named_parameters()[a].size(1)));
    const double largest = one->named_parameters()[a].abs().max().item<double>();
    EXPECT_LE(largest, bound);
    EXPECT_GT(largest, 0.9 * bound);
  }
}

// The mean over many draws is the layer without dropout; evaluation draws nothing.
TEST(LoraLayerTest, DropoutIsSeededAndUnbiased) {
  const at::NoGradGuard no_grad;
  for (const bool dora : {false, true}) {
    at::manual_seed(3);
    Linear layer(24, 16, /*bias=*/true, /*fused=*/true, at::kFloat);
    layer.weight.normal_(), layer.bias.normal_();
    const auto lora = LoraLayer::Attach(
        layer, {.r = 4, .scale = 0.5, .dropout = 0.3, .use_dora = dora}, at::kFloat);
    lora->Initialize(at::detail::getDefaultCPUGenerator());
    lora->InitializeMagnitude(layer);
    layer.named_parameters()["lora_B.weight"].normal_();
    const at::Tensor x_TI = at::randn({5, 24});

    layer.eval();
    const at::Tensor expected_TO = layer.forward(x_TI);
    EXPECT_TRUE(at::equal(layer.forward(x_TI), expected_TO));
    layer.train();
    at::manual_seed(7);
    const at::Tensor first_TO = layer.forward(x_TI);
    EXPECT_FALSE(at::allclose(first_TO, expected_TO));
    at::manual_seed(7);
    EXPECT_TRUE(at::equal(layer.forward(x_TI), first_TO));

    const int draws = 5000;
    at::Tensor sum = at::zeros({5, 16}, at::kDouble), squares = at::zeros_like(sum);
    for (int i = 0; i < draws; ++i) {
      const at::Tensor difference = (layer.forward(x_TI) - expected_TO).to(at::kDouble);
      sum += difference, squares += difference * difference;
    }
    // Each entry's mean within five of its standard errors.
    const at::Tensor error = (squares / draws).sqrt() / std::sqrt(double(draws));
    EXPECT_LT(((sum / draws).abs() / error).max().item<double>(), 5) << "dora " << dora;
  }
}

}  // namespace
}  // namespace liger::trainer
