#include "worker/trainer/optim/adamw.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/unit/optim/fixture.h"
#include "worker/trainer/error.h"
#include "worker/trainer/optim/adamw_device.h"
#include "worker/trainer/optim/gradients.h"

namespace liger::trainer {
namespace {

at::Tensor FloatWave(at::IntArrayRef shape, double seed) {
  return FromWave(shape, seed).to(at::kFloat);
}

Leaves FixtureLeaves() { return LeavesOf(OptimFixture()["shapes"]); }

// Twelve steps, fp32 against torch.optim.AdamW in fp64, clipping included.
TEST(AdamWTest, IsTorchsAdamW) {
  for (const auto& golden : OptimFixture()["adamw"]) {
    SCOPED_TRACE(golden["name"].get<std::string>());
    const Leaves leaves = FixtureLeaves();
    TrainableParameters parameters(leaves, PrecisionPlan());
    AdamW adamw(parameters,
                {golden["beta1"], golden["beta2"], golden["eps"], golden["weight_decay"]},
                PrecisionPlan(), /*seed=*/1);
    for (int step = 0; step < OptimFixture()["steps"]; ++step) {
      std::vector<at::Tensor> grads;
      for (size_t i = 0; i < leaves.size(); ++i) {
        grads.push_back(FloatWave(leaves[i].second.sizes(), 100 + 10 * step + double(i)) *
                        (0.3 + step));
      }
      const at::Tensor norm = GlobalGradientNorm(grads);
      EXPECT_NEAR(norm.item<double>() / golden["norms"][step].get<double>(), 1.0, 1e-6);
      adamw.Step(grads, golden["lr"], ClipFactor(norm, golden["clip"]));
    }
    const auto state = adamw.StateDict();
    for (const auto& [name, leaf] : leaves) {
      EXPECT_LT(RelativeError(leaf, golden["params"][name]), 1e-6) << name;
      EXPECT_LT(RelativeError(state.at("exp_avg_sq." + name), golden["exp_avg_sq"][name]), 1e-6);
    }
  }
}

// Of the third step, with half of the gradient.
kernels::AdamWStepOptions ThirdStep() {
  return {.learning_rate = 2e-3,
          .beta1 = 0.9,
          .beta2 = 0.99,
          .epsilon = 1e-6,
          .step = 3,
          .grad_scale = at::scalar_tensor(0.5, at::kFloat)};
}

// The ATen path that serves devices without a kernel gives what the fused CPU pass gives.
TEST(AdamWTest, DevicePathAgreesWithTheCpuPath) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    std::vector<at::Tensor> cpu, device;
    for (int i = 0; i < 4; ++i) cpu.push_back(FloatWave({17, 9}, i).to(dtype));
    cpu[3].abs_();
    for (const auto& tensor : cpu) device.push_back(tensor.clone());
    kernels::AdamWStep({{.param = cpu[0],
                         .grad = cpu[1],
                         .exp_avg = cpu[2],
                         .exp_avg_sq = cpu[3],
                         .weight_decay = 0.1}},
                       ThirdStep());
    AdamWStepDevice({.param = device[0],
                     .grad = device[1],
                     .exp_avg = device[2],
                     .exp_avg_sq = device[3],
                     .weight_decay = 0.1},
                    ThirdStep(), 0.5, std::nullopt);
    for (int i : {0, 2, 3}) {
      EXPECT_TRUE(at::allclose(cpu[i].to(at::kFloat), device[i].to(at::kFloat),
                               dtype == at::kFloat ? 2e-6 : 8e-3, 1e-7))
          << "tensor " << i << " of " << dtype;
    }
  }
}

// What the host may find out too late.
TEST(AdamWTest, AScaleThatIsNotFiniteChangesNothing) {
  for (const double scale : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    const Leaves leaves = FixtureLeaves();
    TrainableParameters parameters(leaves, PrecisionPlan());
    AdamW adamw(parameters, {0.9, 0.999, 1e-8, 0.5}, PrecisionPlan(), 1);
    std::vector<at::Tensor> grads, before;
    for (const auto& [name, leaf] : leaves) {
      grads.push_back(FloatWave(leaf.sizes(), 5));
      before.push_back(leaf.detach().clone());
    }
    adamw.Step(grads, 1e-2, scale);
    const auto state = adamw.StateDict();
    for (size_t i = 0; i < leaves.size(); ++i) {
      EXPECT_TRUE(at::equal(leaves[i].second.detach(), before[i])) << leaves[i].first;
      EXPECT_EQ(at::count_nonzero(state.at("exp_avg." + leaves[i].first)).item<int64_t>(), 0);
    }
  }
}

TEST(AdamWTest, WritesTheComputeCopy) {
  const PrecisionPlan mixed{at::kFloat, at::kBFloat16, at::kFloat, at::kFloat, Rounding::kNearest};
  const at::Tensor leaf = FloatWave({40, 40}, 2).requires_grad_();
  TrainableParameters parameters({{"a.weight", leaf}}, mixed);
  AdamW adamw(parameters, {}, mixed, 1);
  const at::Tensor before = leaf.detach().clone();
  adamw.Step({FloatWave({40, 40}, 9)}, 0.1, 1.0);
  const at::Tensor storage = parameters.entries()[0].storage;
  EXPECT_TRUE(at::equal(leaf.detach(), storage.to(at::kBFloat16)));
  EXPECT_FALSE(at::equal(leaf.detach(), before));
}

TEST(AdamWTest, UndefinedGradientLeavesTheParameterAlone) {
  const Leaves leaves = {{"a.weight", FloatWave({3, 3}, 1).requires_grad_()}};
  const at::Tensor before = leaves[0].second.detach().clone();
  TrainableParameters parameters(leaves, PrecisionPlan());
  AdamW(parameters, {0.9, 0.999, 1e-8, 0.5}, PrecisionPlan(), 1).Step({at::Tensor()}, 0.1, 1);
  EXPECT_TRUE(at::equal(leaves[0].second.detach(), before));
}

TEST(AdamWTest, StateDictRestoresTheRun) {
  const Leaves leaves = FixtureLeaves();
  const Leaves copies = FixtureLeaves();
  TrainableParameters first(leaves, PrecisionPlan()), second(copies, PrecisionPlan());
  AdamW one(first, {}, PrecisionPlan(), 7), two(second, {}, PrecisionPlan(), 7);
  const auto grads = [&](double seed) {
    std::vector<at::Tensor> out;
    for (const auto& [name, leaf] : leaves) out.push_back(FloatWave(leaf.sizes(), seed));
    return out;
  };
  one.Step(grads(5), 1e-2, 1);
  {
    at::NoGradGuard no_grad;
    for (size_t i = 0; i < leaves.size(); ++i) copies[i].second.copy_(leaves[i].second);
  }
  two.LoadStateDict(one.StateDict());
  EXPECT_EQ(two.step_count(), 1);
  one.Step(grads(6), 1e-2, 1);
  two.Step(grads(6), 1e-2, 1);
  for (size_t i = 0; i < leaves.size(); ++i) {
    EXPECT_TRUE(at::equal(leaves[i].second, copies[i].second)) << leaves[i].first;
  }
}

TEST(AdamWTest, StateDictOfAnotherModelIsRefusedByName) {
  const Leaves leaves = FixtureLeaves();
  TrainableParameters parameters(leaves, PrecisionPlan());
  AdamW adamw(parameters, {}, PrecisionPlan(), 1);
  try {
    adamw.LoadStateDict({{"step", at::scalar_tensor(3, at::kLong)}});
    FAIL() << "accepted";
  } catch (const TrainerError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("exp_avg.embed.weight"));
  }
}

const PrecisionPlan kStochastic{at::kBFloat16, at::kBFloat16, at::kBFloat16, at::kBFloat16,
                                Rounding::kStochastic};

// Moves 20,000 ones by steps far below half a bf16 unit and returns the mean change.
double MeanChange(const PrecisionPlan& plan, int steps, double learning_rate, uint64_t seed,
                  at::Tensor* result = nullptr) {
  const at::Tensor leaf = at::ones({200, 100}, at::kBFloat16).requires_grad_();
  TrainableParameters parameters({{"a.weight", leaf}}, plan);
  AdamW adamw(parameters, {}, plan, seed);
  const at::Tensor grad = at::ones({200, 100}, at::kBFloat16);
  for (int i = 0; i < steps; ++i) adamw.Step({grad}, learning_rate, 1.0);
  if (result != nullptr) *result = leaf.detach().clone();
  return (leaf.detach().to(at::kDouble) - 1).mean().item<double>();
}

TEST(AdamWTest, StochasticRoundingKeepsSmallStepsOnAverage) {
  // A constant gradient moves by the learning rate; bf16's unit below 1 is 2^-8.
  const double expected = -20 * 1e-4;
  // Standard error of the mean of 20,000 Bernoulli draws a step: about 1.2e-5.
  EXPECT_NEAR(MeanChange(kStochastic, 20, 1e-4, 3), expected, 8e-5);
  PrecisionPlan nearest = kStochastic;
  nearest.rounding = Rounding::kNearest;
  EXPECT_EQ(MeanChange(nearest, 20, 1e-4, 3), 0.0) << "this is what the warning is about";
}

TEST(AdamWTest, StochasticRoundingIsReproducibleOnAnyNumberOfThreads) {
  const int threads = at::get_num_threads();
  at::Tensor one, four, other_seed;
  at::set_num_threads(1);
  MeanChange(kStochastic, 3, 1e-3, 11, &one);
  at::set_num_threads(4);
  MeanChange(kStochastic, 3, 1e-3, 11, &four);
  MeanChange(kStochastic, 3, 1e-3, 12, &other_seed);
  at::set_num_threads(threads);
  EXPECT_TRUE(at::equal(one, four));
  EXPECT_FALSE(at::equal(one, other_seed));
}

// Each stored value is one of the two bf16 neighbours of the exact result.
TEST(AdamWTest, StochasticRoundingStaysBetweenTheNeighbours) {
  at::Tensor p = FloatWave({64, 64}, 3).to(at::kBFloat16),
             m = FloatWave({64, 64}, 4).to(at::kBFloat16),
             v = FloatWave({64, 64}, 5).abs().to(at::kBFloat16);
  const at::Tensor g = FloatWave({64, 64}, 6).to(at::kBFloat16);
  at::Tensor exact = p.to(at::kFloat), exact_m = m.to(at::kFloat), exact_v = v.to(at::kFloat);
  kernels::AdamWStepOptions options = ThirdStep();
  kernels::AdamWStep({{.param = exact, .grad = g, .exp_avg = exact_m, .exp_avg_sq = exact_v}},
                     options);
  options.stochastic = true;
  kernels::AdamWStep({{.param = p, .grad = g, .exp_avg = m, .exp_avg_sq = v, .stream = 99}},
                     options);
  const at::Tensor unit = exact.abs() * (1.0 / 128);  // at least one bf16 unit
  EXPECT_TRUE(((p.to(at::kFloat) - exact).abs() <= unit).all().item<bool>());
  EXPECT_FALSE(at::equal(p, exact.to(at::kBFloat16))) << "nothing was rounded away from nearest";
}

}  // namespace
}  // namespace liger::trainer
