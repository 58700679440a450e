// The optimizers beside AdamW, and what all of them share.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/paths.h"
#include "tests/unit/optim/fixture.h"
#include "worker/trainer/error.h"
#include "worker/trainer/optim/adamw_8bit.h"
#include "worker/trainer/optim/optimizer.h"

namespace liger::trainer {
namespace {

using liger::v1::TrainingSpec;
using nlohmann::ordered_json;

constexpr const char* kNames[] = {"adamw", "adamw_8bit", "adafactor", "lion", "sgd"};

// tests/golden/optim/optimizers.json, from tools/fixtures/optimizer_fixtures.py.
const ordered_json& Fixture() {
  static const ordered_json fixture = [] {
    std::ifstream in(SourceDir() + "/tests/golden/optim/optimizers.json");
    return ordered_json::parse(in);
  }();
  return fixture;
}

Leaves FixtureLeaves(const char* shapes, at::ScalarType dtype = at::kFloat) {
  return LeavesOf(Fixture()[shapes], dtype);
}

std::vector<at::Tensor> Gradients(const Leaves& leaves, int step, at::ScalarType dtype) {
  std::vector<at::Tensor> grads;
  for (size_t i = 0; i < leaves.size(); ++i) {
    const at::Tensor wave = FromWave(leaves[i].second.sizes(), 100 + 10 * step + double(i));
    grads.push_back((wave * (0.3 + step)).to(dtype));
  }
  return grads;
}

TrainingSpec Spec(const std::string& optim, const ordered_json& options = ordered_json::object()) {
  TrainingSpec training;
  training.set_optim(optim);
  training.set_seed(3);
  training.set_sgd_momentum(options.value("sgd_momentum", 0.9));
  training.set_weight_decay(options.value("weight_decay", 0.01));
  if (options.contains("adam_beta1")) training.set_adam_beta1(options["adam_beta1"]);
  if (options.contains("adam_beta2")) training.set_adam_beta2(options["adam_beta2"]);
  return training;
}

std::vector<uint8_t> FromHex(const std::string& hex) {
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i < hex.size(); i += 2) {
    bytes.push_back(uint8_t(std::strtoul(hex.substr(i, 2).c_str(), nullptr, 16)));
  }
  return bytes;
}

// Ten steps of fp32 against fp64.
TEST(OptimizersTest, AreTorchsSgdTransformersAdafactorAndThePapersLion) {
  for (const char* name : {"sgd", "adafactor", "lion"}) {
    for (const auto& golden : Fixture()[name]) {
      const Leaves leaves = FixtureLeaves("shapes");
      TrainableParameters parameters(leaves, PrecisionPlan());
      const auto optimizer = MakeOptimizer(Spec(name, golden), parameters, PrecisionPlan());
      for (int step = 0; step < Fixture()["steps"]; ++step) {
        // Half of the gradients by the factor that clipping would be.
        auto grads = Gradients(leaves, step, at::kFloat);
        for (at::Tensor& grad : grads) grad = grad * 2;
        optimizer->Step(grads, golden["lr"], 0.5);
      }
      for (const auto& [leaf_name, leaf] : leaves) {
        EXPECT_LT(RelativeError(leaf, golden["params"][leaf_name]), 2e-6)
            << name << " " << leaf_name;
      }
    }
  }
}

TEST(OptimizersTest, DynamicMapsAreThoseOfBitsandbytes) {
  for (const bool has_sign : {true, false}) {
    const at::Tensor map = DynamicMap(has_sign);
    const std::vector<double> golden = Fixture()[has_sign ? "dynamic_map" : "dynamic_map_unsigned"];
    EXPECT_TRUE(at::equal(map, at::tensor(golden, at::kDouble).to(at::kFloat)));
  }
}

// Ten steps against bitsandbytes' AdamW8bit. A value next to the border of two
// codes may get either, so that a few differ by one.
TEST(OptimizersTest, AdamW8bitIsBitsandbytes) {
  for (const auto& golden : Fixture()["adamw_8bit"]) {
    const Leaves leaves = FixtureLeaves("shapes_8bit");
    TrainableParameters parameters(leaves, PrecisionPlan());
    const auto optimizer = MakeOptimizer(Spec("adamw_8bit", golden), parameters, PrecisionPlan());
    for (int step = 0; step < Fixture()["steps"]; ++step) {
      optimizer->Step(Gradients(leaves, step, at::kFloat), golden["lr"], 1);
    }
    for (const auto& [name, leaf] : leaves) {
      const at::Tensor sampled = leaf.detach().flatten().slice(0, 0, std::nullopt, 7);
      EXPECT_LT(RelativeError(sampled, golden["params"][name]), 1e-6) << name;
    }
    const auto state = optimizer->StateDict();
    for (const std::string kind : {"exp_avg", "exp_avg_sq"}) {
      const at::Tensor& codes = state.at(kind + ".layers.0.proj.weight");
      ASSERT_EQ(codes.scalar_type(), at::kByte);
      const at::Tensor difference =
          codes.flatten().to(at::kInt) - at::tensor(FromHex(golden[kind]), at::kInt);
      EXPECT_LE(difference.abs().max().item<int>(), 1) << kind;
      EXPECT_LE(difference.count_nonzero().item<int64_t>(), 4) << kind;
      EXPECT_LT(
          RelativeError(state.at(kind + "_absmax.layers.0.proj.weight"), golden[kind + "_absmax"]),
          1e-6);
      EXPECT_EQ(state.at(kind + ".norm.weight").scalar_type(), at::kFloat) << "too small";
    }
  }
}

// Embeddings are left in fp32, as transformers has it, whatever their size.
TEST(OptimizersTest, AdamW8bitKeepsEmbeddingsInFp32) {
  const Leaves leaves = {
      {"model.embed_tokens.weight", at::ones({128, 64}).requires_grad_()},
      {"model.layers.0.mlp.up_proj.weight", at::ones({128, 64}).requires_grad_()}};
  TrainableParameters parameters(leaves, PrecisionPlan());
  const auto optimizer = MakeOptimizer(Spec("adamw_8bit"), parameters, PrecisionPlan());
  EXPECT_EQ(optimizer->StateBytes(), 8192 * 8 + 8192 * 2 + 32 * 8);
  optimizer->Step({at::ones({128, 64}), at::ones({128, 64})}, 1e-3, 1);
  EXPECT_EQ(optimizer->StateDict().at("exp_avg.model.embed_tokens.weight").scalar_type(),
            at::kFloat);
}

TEST(OptimizersTest, StateBytesAreWhatTheStatesTake) {
  for (const char* name : kNames) {
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      const PrecisionPlan plan{dtype, dtype, dtype, dtype, Rounding::kStochastic};
      const Leaves leaves = FixtureLeaves("shapes_8bit", dtype);
      TrainableParameters parameters(leaves, plan);
      const auto optimizer = MakeOptimizer(Spec(name), parameters, plan);
      const int64_t foretold = optimizer->StateBytes();
      optimizer->Step(Gradients(leaves, 0, dtype), 1e-3, 1);
      int64_t bytes = 0;
      for (const auto& [key, tensor] : optimizer->StateDict()) {
        if (key != "step") bytes += int64_t(tensor.nbytes());
      }
      EXPECT_EQ(foretold, bytes) << name << " " << dtype;
    }
  }
}

// A run that goes on from its state takes the same steps, bit for bit, also
// where rounding is random.
TEST(OptimizersTest, StateDictRestoresTheRun) {
  for (const char* name : kNames) {
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      SCOPED_TRACE(std::string(name) + " " + c10::toString(dtype));
      const PrecisionPlan plan{dtype, dtype, dtype, dtype, Rounding::kStochastic};
      const Leaves leaves = FixtureLeaves("shapes_8bit", dtype);
      const Leaves copies = FixtureLeaves("shapes_8bit", dtype);
      TrainableParameters first(leaves, plan), second(copies, plan);
      const auto one = MakeOptimizer(Spec(name), first, plan);
      const auto two = MakeOptimizer(Spec(name), second, plan);
      for (int step = 0; step < 3; ++step) one->Step(Gradients(leaves, step, dtype), 1e-2, 1);
      {
        const at::NoGradGuard no_grad;
        for (size_t i = 0; i < leaves.size(); ++i) copies[i].second.copy_(leaves[i].second);
      }
      two->LoadStateDict(one->StateDict());
      for (int step = 3; step < 5; ++step) {
        one->Step(Gradients(leaves, step, dtype), 1e-2, 1);
        two->Step(Gradients(leaves, step, dtype), 1e-2, 1);
      }
      for (size_t i = 0; i < leaves.size(); ++i) {
        EXPECT_TRUE(at::equal(leaves[i].second, copies[i].second)) << leaves[i].first;
      }
    }
  }
}

// Steps far below half a unit in the last place of bf16 add up.
TEST(OptimizersTest, StochasticRoundingKeepsSmallStepsOnAverage) {
  for (const char* name : kNames) {
    const PrecisionPlan plan{at::kBFloat16, at::kBFloat16, at::kBFloat16, at::kBFloat16,
                             Rounding::kStochastic};
    const Leaves leaves = {{"a.weight", at::ones({100, 100}, at::kBFloat16).requires_grad_()}};
    TrainableParameters parameters(leaves, plan);
    TrainingSpec spec = Spec(name);
    spec.set_sgd_momentum(0);
    spec.set_weight_decay(0);
    const auto optimizer = MakeOptimizer(spec, parameters, plan);
    for (int step = 0; step < 20; ++step) {
      optimizer->Step({at::ones({100, 100}, at::kBFloat16)}, 1e-4, 1);
    }
    EXPECT_NEAR(leaves[0].second.to(at::kFloat).mean().item<double>(), 1 - 20e-4, 3e-4) << name;
  }
}

TEST(OptimizersTest, WritesTheComputeCopyAndLeavesWhatHasNoGradient) {
  const PrecisionPlan mixed{at::kFloat, at::kBFloat16, at::kFloat, at::kFloat, Rounding::kNearest};
  for (const char* name : kNames) {
    const Leaves leaves = {{"a.weight", FromWave({40, 40}, 2).to(at::kFloat).requires_grad_()},
                           {"b.weight", FromWave({40, 40}, 3).to(at::kFloat).requires_grad_()}};
    TrainableParameters parameters(leaves, mixed);
    const at::Tensor before = parameters.entries()[1].storage.clone();
    const auto optimizer = MakeOptimizer(Spec(name), parameters, mixed);
    optimizer->Step({FromWave({40, 40}, 9).to(at::kFloat), at::Tensor()}, 0.1, 1.0);
    const auto& entries = parameters.entries();
    EXPECT_TRUE(at::equal(leaves[0].second.detach(), entries[0].storage.to(at::kBFloat16)));
    EXPECT_FALSE(at::equal(entries[0].storage, FromWave({40, 40}, 2).to(at::kFloat)));
    EXPECT_TRUE(at::equal(entries[1].storage, before)) << name;
  }
}

TEST(OptimizersTest, StatesOfAnotherOptimizerAreRefusedByName) {
  const Leaves leaves = FixtureLeaves("shapes_8bit");
  TrainableParameters parameters(leaves, PrecisionPlan());
  const auto eight_bit = MakeOptimizer(Spec("adamw_8bit"), parameters, PrecisionPlan());
  eight_bit->Step(Gradients(leaves, 0, at::kFloat), 1e-3, 1);
  const auto adamw = MakeOptimizer(Spec("adamw"), parameters, PrecisionPlan());
  try {
    adamw->LoadStateDict(eight_bit->StateDict());
    FAIL() << "8-bit codes were taken for moments";
  } catch (const TrainerError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("'exp_avg.layers.0.proj.weight' is Byte"));
  }
  EXPECT_THROW(MakeOptimizer(Spec("rmsprop"), parameters, PrecisionPlan()), TrainerError);
}

}  // namespace
}  // namespace liger::trainer
