#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/models/golden.h"
#include "worker/trainer/error.h"
#include "worker/trainer/models/activation_checkpoint.h"
#include "worker/trainer/models/generate.h"
#include "worker/trainer/models/registry.h"
#include "worker/trainer/models/weights.h"
#include "worker/trainer/objectives/token_logprobs.h"

namespace liger::trainer {
namespace {

at::Tensor FirstBatchLogits(CausalLM& model, const std::string& folder) {
  const Batch batch =
      golden::SftBatch(golden::ReadJson(folder + "/expected.json")["sft_batches"][0]);
  return model.Logits(model.Hidden(ToModelInput(batch, model)));
}

at::Tensor ExpectedLogits(const std::string& folder) {
  return SafetensorsFile::Open(folder + "/expected.safetensors")->View("logits").clone();
}

class TinyModelTest : public testing::TestWithParam<std::string> {
 protected:
  const std::string folder_ = golden::Folder("tiny/" + GetParam());
};

TEST_P(TinyModelTest, LogitsAreTransformers) {
  for (const char* kernels : {"LIGER", "BASELINE", "rope", "rms_norm", "swiglu"}) {
    const auto model = golden::LoadModel(folder_, kernels);
    EXPECT_LT(golden::RelativeError(FirstBatchLogits(*model, folder_), ExpectedLogits(folder_)),
              1e-5)
        << kernels;
  }
}

TEST_P(TinyModelTest, GreedyAnswerIsTransformers) {
  const auto greedy = golden::ReadJson(folder_ + "/expected.json")["greedy"];
  const auto prompt = greedy["prompt"].get<std::vector<int32_t>>();
  const auto answer = greedy["answer"].get<std::vector<int32_t>>();
  const auto model = golden::LoadModel(folder_, "LIGER");
  const int64_t count = static_cast<int64_t>(answer.size());
  EXPECT_EQ(GenerateGreedy(*model, prompt, count, {}), answer);

  const int64_t stop = answer[5];
  const auto end = std::find(answer.begin(), answer.end(), stop) + 1;
  EXPECT_EQ(GenerateGreedy(*model, prompt, count, std::span(&stop, 1)),
            std::vector<int32_t>(answer.begin(), end));
}

INSTANTIATE_TEST_SUITE_P(Cases, TinyModelTest, testing::ValuesIn(golden::TinyCases()));

// Each feature of a config must matter, or the comparisons above prove nothing.
TEST(TinyModelFeatures, AWrongConfigGivesOtherLogits) {
  const std::string folder = golden::Folder("tiny/llama3_rope_tied_hub");
  const at::Tensor expected = ExpectedLogits(folder);
  const auto error_with = [&](auto change) {
    ModelConfig config = ModelConfig::FromFolder(folder);
    change(config);
    const auto model = BuildModel(config, golden::Kernels("LIGER"));
    LoadWeights(*model, folder);
    return golden::RelativeError(FirstBatchLogits(*model, folder), expected);
  };
  EXPECT_LT(error_with([](ModelConfig&) {}), 1e-5);
  EXPECT_GT(error_with([](ModelConfig& c) { c.rope.type = RopeConfig::Type::kDefault; }), 1e-3);
  EXPECT_GT(error_with([](ModelConfig& c) { c.rope.theta *= 2; }), 1e-3);
  EXPECT_GT(error_with([](ModelConfig& c) { c.rope.high_freq_factor = 2; }), 1e-3);
  EXPECT_GT(error_with([](ModelConfig& c) { c.rms_norm_eps = 1e-2; }), 1e-3);
}

TEST(LlamaParameters, HaveHuggingFaceNames) {
  const std::string folder = golden::Folder("tiny/mqa_head_dim_bias_v5");
  const auto model = golden::LoadModel(folder, "LIGER");
  const auto file = SafetensorsFile::Open(folder + "/model.safetensors");
  std::vector<std::string> expected, actual;
  for (const auto& [name, info] : file->tensors()) expected.push_back(name);
  for (const auto& item : model->named_parameters()) actual.push_back(item.key());
  EXPECT_THAT(actual, testing::UnorderedElementsAreArray(expected));
}

void CheckWeightsOf(CausalLM& model, const std::string& folder) { CheckWeights(model, folder); }

TEST(LlamaWeights, OfAnotherShapeAreRefusedByName) {
  const std::string folder = golden::Folder("tiny/gqa_tied_v5");
  ModelConfig config = ModelConfig::FromFolder(folder);
  config.intermediate_size += 1;
  const auto model = BuildModel(config, golden::Kernels("LIGER"));
  for (const auto check : {&LoadWeights, &CheckWeightsOf}) {
    try {
      check(*model, folder);
      FAIL() << "accepted";
    } catch (const TrainerError& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr(".mlp."));
    }
  }
}

TEST(LlamaWeights, RandomOnesAreSeededAndScaled) {
  ModelConfig config = ModelConfig::FromFolder(golden::Folder("tiny/mqa_head_dim_bias_v5"));
  const auto draw = [&](uint64_t seed) {
    auto model = BuildModel(config, golden::Kernels("LIGER"));
    InitializeWeights(*model, seed);
    return model->named_parameters();
  };
  const auto a = draw(1), b = draw(1), c = draw(2);
  const std::string q = "model.layers.1.self_attn.q_proj.weight";
  EXPECT_TRUE(a[q].equal(b[q]));
  EXPECT_FALSE(a[q].equal(c[q]));
  EXPECT_NEAR(a[q].std().item<double>(), config.initializer_range, 0.1 * config.initializer_range);
  EXPECT_GT(a["model.embed_tokens.weight"][3].norm().item<double>(), 0);
  EXPECT_TRUE(a["model.norm.weight"].eq(1).all().item<bool>());
  EXPECT_TRUE(a["model.layers.0.self_attn.q_proj.bias"].eq(0).all().item<bool>());
  config.pad_token_id = 3;
  const auto padded = draw(1);
  EXPECT_TRUE(padded["model.embed_tokens.weight"][3].eq(0).all().item<bool>());
  EXPECT_TRUE(padded["lm_head.weight"].equal(a["lm_head.weight"]));
}

// A large matrix is drawn in pieces, on several threads.
TEST(LlamaWeights, RandomOnesAreTheSameOnAnyNumberOfThreads) {
  ModelConfig config = ModelConfig::FromFolder(golden::Folder("tiny/mqa_head_dim_bias_v5"));
  config.vocab_size = (int64_t{1} << 20) / config.hidden_size;
  const int threads = at::get_num_threads();
  const auto draw = [&](int count) {
    at::set_num_threads(count);
    auto model = BuildModel(config, golden::Kernels("LIGER"));
    InitializeWeights(*model, 1);
    at::set_num_threads(threads);
    return model->named_parameters()["model.embed_tokens.weight"].detach();
  };
  const at::Tensor one = draw(1);
  EXPECT_TRUE(one.equal(draw(3)));
  EXPECT_NEAR(one.std().item<double>(), config.initializer_range, 0.01 * config.initializer_range);
  const auto quarters = one.chunk(4);
  EXPECT_FALSE(quarters[0].equal(quarters[1]));
}

// ---- Activation checkpointing ----

// policy.every: 0 checkpoints nothing.
std::map<std::string, at::Tensor> Gradients(const CheckpointPolicy& policy, bool frozen_embeddings,
                                            const std::string& name = "mha_untied_hub",
                                            const std::string& kernels = "LIGER") {
  const std::string folder = golden::Folder("tiny/" + name);
  const auto model = golden::LoadModel(folder, kernels);
  if (frozen_embeddings)
    model->named_parameters()["model.embed_tokens.weight"].requires_grad_(false);
  if (policy.every > 0) ApplyActivationCheckpointing(*model, policy);
  FirstBatchLogits(*model, folder).square().mean().backward();
  std::map<std::string, at::Tensor> grads;
  for (const auto& item : model->named_parameters()) {
    if (item.value().grad().defined()) grads[item.key()] = item.value().grad();
  }
  return grads;
}

TEST(ActivationCheckpoint, GivesTheSameGradients) {
  for (const bool frozen : {false, true}) {
    const auto expected = Gradients({.every = 0}, frozen);
    for (const int64_t every : {1, 2}) {
      const auto actual = Gradients({.every = every}, frozen);
      ASSERT_EQ(actual.size(), expected.size()) << "some parameters got no gradient";
      for (const auto& [name, grad] : expected) {
        EXPECT_TRUE(actual.at(name).equal(grad)) << name << " every " << every;
      }
    }
  }
}

class KeepingTest : public testing::TestWithParam<std::string> {};

TEST_P(KeepingTest, AttentionsResultsGivesTheSameGradients) {
  for (const char* kernels : {"LIGER", "BASELINE"}) {
    const auto expected = Gradients({}, false, GetParam(), kernels);
    for (const bool keep : {false, true}) {
      const auto actual =
          Gradients({.keep_attention = keep, .offload = true}, false, GetParam(), kernels);
      ASSERT_EQ(actual.size(), expected.size()) << "some parameters got no gradient";
      for (const auto& [name, grad] : expected) {
        EXPECT_TRUE(actual.at(name).equal(grad)) << name << " " << kernels << " " << keep;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, KeepingTest, testing::ValuesIn(golden::TinyCases()));

TEST(ActivationCheckpoint, ASecondBackwardPassOverWhatWasKeptIsRefused) {
  const std::string folder = golden::Folder("tiny/mha_untied_hub");
  for (const bool keep : {false, true}) {
    const auto model = golden::LoadModel(folder, "LIGER");
    ApplyActivationCheckpointing(*model, {.keep_attention = keep});
    const at::Tensor loss = FirstBatchLogits(*model, folder).square().mean();
    loss.backward({}, /*retain_graph=*/true);
    if (keep) {
      EXPECT_THROW(loss.backward(), c10::Error);
    } else {
      loss.backward();
    }
  }
}

// The load-balancing loss is over all layers' routers, so its gradient enters
// every block apart from the hidden states.
TEST(ActivationCheckpoint, KeepsTheRoutersGradients) {
  const std::string folder = golden::Folder("tiny/mixtral_router_v5");
  const Batch batch =
      golden::SftBatch(golden::ReadJson(folder + "/expected.json")["sft_batches"][0]);
  std::vector<std::map<std::string, at::Tensor>> grads;
  for (const int64_t every : {0, 1, 2}) {
    const auto model = golden::LoadModel(folder, "LIGER");
    if (every > 0) ApplyActivationCheckpointing(*model, {.every = every});
    at::Tensor aux_loss;
    const at::Tensor hidden = model->Hidden(ToModelInput(batch, *model), nullptr, &aux_loss);
    (hidden.square().mean() + aux_loss).backward();
    auto& result = grads.emplace_back();
    for (const auto& item : model->named_parameters()) {
      if (item.value().grad().defined()) result[item.key()] = item.value().grad();
    }
  }
  for (const auto& [name, expected] : grads[0]) {
    for (const size_t i : {1, 2}) {
      ASSERT_TRUE(grads[i].contains(name)) << name;
      EXPECT_LT(golden::RelativeError(grads[i][name], expected), 1e-6) << name;
    }
  }
}

TEST(ActivationCheckpoint, ReplaysRandomNumbersAndLeavesTheGeneratorAlone) {
  const at::Tensor weight = at::ones({64}).requires_grad_();
  const BlockFn dropout = [&](const at::Tensor& x) { return at::dropout(x * weight, 0.5, true); };
  const at::Tensor x = at::ones({64});
  at::manual_seed(3);
  const at::Tensor y = CheckpointedCall(dropout, x).hidden_TD;
  const at::Tensor next_draw = at::rand({4});
  at::manual_seed(3);
  dropout(x);
  EXPECT_TRUE(next_draw.equal(at::rand({4})));
  y.sum().backward();
  EXPECT_TRUE(weight.grad().equal(y.detach())) << "another mask was drawn in the backward pass";
  EXPECT_GT(y.sum().item<double>(), 0);
}

TEST(ActivationCheckpoint, KeepsOnlyTheInput) {
  int runs = 0;
  const at::Tensor weight = at::ones({8}).requires_grad_();
  const BlockFn block = [&](const at::Tensor& x) {
    ++runs;
    EXPECT_EQ(at::GradMode::is_enabled(), runs == 2);
    return (x * weight).exp();
  };
  const at::Tensor y = CheckpointedCall(block, at::ones({8})).hidden_TD;
  EXPECT_EQ(runs, 1);
  y.sum().backward();
  EXPECT_EQ(runs, 2);
  EXPECT_TRUE(weight.grad().allclose(at::ones({8}).exp()));
}

}  // namespace
}  // namespace liger::trainer
