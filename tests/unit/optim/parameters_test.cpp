#include "worker/trainer/optim/parameters.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace liger::trainer {
namespace {

at::Tensor Leaf(at::IntArrayRef shape, at::ScalarType dtype = at::kFloat) {
  at::manual_seed(int64_t(shape.size()) + 3);
  return at::randn(shape).to(dtype).requires_grad_();
}

PrecisionPlan Mixed() {
  return {at::kFloat, at::kBFloat16, at::kFloat, at::kFloat, Rounding::kNearest};
}

TEST(ParametersTest, SkipsFrozenAndFindsWeightDecay) {
  TrainableParameters parameters({{"a.weight", Leaf({3, 2})},
                                  {"a.bias", Leaf({3})},
                                  {"norm.weight", Leaf({2})},
                                  {"frozen.weight", at::ones({2, 2})}},
                                 PrecisionPlan());
  ASSERT_EQ(parameters.entries().size(), 3u);
  EXPECT_TRUE(parameters.entries()[0].decay);
  EXPECT_FALSE(parameters.entries()[1].decay);
  EXPECT_FALSE(parameters.entries()[2].decay);
  EXPECT_EQ(parameters.numel(), 11);
}

TEST(ParametersTest, PlainPlanUsesTheLeafItself) {
  const at::Tensor leaf = Leaf({3, 2});
  TrainableParameters parameters({{"a.weight", leaf}}, PrecisionPlan());
  EXPECT_TRUE(parameters.entries()[0].storage.is_same(leaf));
  (leaf * 2).sum().backward();
  (leaf * 3).sum().backward();
  EXPECT_TRUE(at::equal(parameters.Gradients()[0], at::full({3, 2}, 5.0f)));
  parameters.ZeroGradients();
  EXPECT_FALSE(parameters.Gradients()[0].defined());
}

TEST(ParametersTest, ComputeCopyIsBf16AndStorageKeepsItsBits) {
  const at::Tensor leaf = Leaf({4, 5});
  const at::Tensor original = leaf.detach().clone();
  TrainableParameters parameters({{"a.weight", leaf}}, Mixed());
  EXPECT_EQ(leaf.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(at::equal(parameters.entries()[0].storage, original));
  EXPECT_TRUE(at::equal(leaf.detach(), original.to(at::kBFloat16)));
  {
    at::NoGradGuard no_grad;
    parameters.entries()[0].storage.add_(1);
  }
  parameters.RefreshCompute();
  EXPECT_TRUE(at::equal(leaf.detach(), (original + 1).to(at::kBFloat16)));
}

// 256 + 1 + 1 in bf16 stays 256: micro-batches would be lost there.
TEST(ParametersTest, GradientsAccumulateInTheirOwnDtype) {
  const at::Tensor leaf = Leaf({2, 2});
  TrainableParameters parameters({{"a.weight", leaf}}, Mixed());
  for (const double scale : {256.0, 1.0, 1.0}) (leaf.to(at::kFloat) * scale).sum().backward();
  EXPECT_FALSE(leaf.grad().defined()) << "both dtypes' gradients are kept";
  const at::Tensor grad = parameters.Gradients()[0];
  EXPECT_EQ(grad.scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(grad, at::full({2, 2}, 258.0f)));
}

// What adds its gradient up by itself and autograd's come together, once.
TEST(ParametersTest, DirectGradientIsPartOfTheGradient) {
  for (const PrecisionPlan& plan : {PrecisionPlan(), Mixed()}) {
    const at::Tensor leaf = Leaf({2, 2});
    TrainableParameters parameters({{"a.weight", leaf}}, plan);
    for (int step = 0; step < 2; ++step) {
      const at::Tensor direct = parameters.DirectGradient(leaf)->Settled();
      EXPECT_EQ(direct.scalar_type(), at::kFloat);
      direct.add_(0.25);
      (leaf.to(at::kFloat) * 256).sum().backward();
      EXPECT_TRUE(parameters.DirectGradient(leaf)->sum.is_same(direct));
      direct.add_(1);
      EXPECT_TRUE(parameters.Gradients()[0].is_same(direct)) << "one buffer, no copy";
      EXPECT_TRUE(at::equal(direct, at::full({2, 2}, 257.25f)));
      parameters.ZeroGradients();
    }
  }
}

// Once a step, to the one who asks first.
TEST(ParametersTest, DirectGradientIsNewUntilItIsAskedFor) {
  PrecisionPlan bf16;
  bf16.storage = bf16.compute = bf16.gradient = bf16.optimizer = at::kBFloat16;
  for (const PrecisionPlan& plan : {PrecisionPlan(), Mixed(), bf16}) {
    const at::Tensor leaf = Leaf({2, 2}, plan.storage);
    TrainableParameters parameters({{"a.weight", leaf}}, plan);
    for (int step = 0; step < 2; ++step) {
      GradientSum first = *parameters.DirectGradient(leaf);
      EXPECT_TRUE(first.is_new);
      EXPECT_FALSE(parameters.DirectGradient(leaf)->is_new);
      first.sum.fill_(std::nan(""));
      EXPECT_EQ(first.Settled().abs().max().item<float>(), 0);
      first.sum.fill_(3);
      EXPECT_EQ(first.Settled().min().item<float>(), 3) << "settled twice";
      EXPECT_TRUE(parameters.Gradients()[0].to(at::kFloat).equal(at::full({2, 2}, 3.0f)));
      parameters.ZeroGradients();
    }
  }
}

TEST(ParametersTest, DirectGradientOfBf16IsRoundedOnce) {
  const at::Tensor leaf = Leaf({2, 2}, at::kBFloat16);
  PrecisionPlan plan;
  plan.storage = plan.compute = plan.gradient = plan.optimizer = at::kBFloat16;
  TrainableParameters parameters({{"a.weight", leaf}}, plan);
  for (int i = 0; i < 2; ++i) parameters.DirectGradient(leaf)->Settled().add_(0.5);
  leaf.sum().backward();
  parameters.DirectGradient(leaf)->Settled().add_(256);  // in bf16, 256 + 1 is 256
  const at::Tensor grad = parameters.Gradients()[0];
  EXPECT_EQ(grad.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(at::equal(grad.to(at::kFloat), at::full({2, 2}, 258.0f))) << grad;
  parameters.DirectGradient(leaf)->Settled().add_(7);
  parameters.ZeroGradients();
  EXPECT_FALSE(parameters.Gradients()[0].defined());
}

// The same gradient, before the others are there.
TEST(ParametersTest, AFinishedDirectGradientIsRoundedAtOnce) {
  const PrecisionPlan plan{at::kBFloat16, at::kBFloat16, at::kBFloat16, at::kBFloat16,
                           Rounding::kNearest};
  const at::Tensor leaf = at::zeros({4, 3}, at::kBFloat16).requires_grad_();
  TrainableParameters parameters({{"a.weight", leaf}}, plan);
  const at::Tensor sum = parameters.DirectGradient(leaf)->sum;
  sum.fill_(256.0f + 1.5f);
  parameters.FinishDirectGradient(leaf);
  ASSERT_TRUE(leaf.grad().defined());
  EXPECT_TRUE(leaf.grad().equal(at::full({4, 3}, 258, at::kBFloat16)));
  sum.fill_(7);  // nobody looks at it any more
  EXPECT_TRUE(parameters.Gradients()[0].equal(at::full({4, 3}, 258, at::kBFloat16)));
  parameters.FinishDirectGradient(at::zeros({2}));  // not trained
}

TEST(ParametersTest, AFrozenLeafHasNoDirectGradient) {
  const at::Tensor frozen = at::ones({2, 2});
  TrainableParameters parameters({{"a.weight", Leaf({2, 2})}, {"b.weight", frozen}},
                                 PrecisionPlan());
  EXPECT_FALSE(parameters.DirectGradient(frozen).has_value());
}

TEST(ParametersTest, WrongStorageDtypeIsRefused) {
  EXPECT_THROW(TrainableParameters({{"a.weight", Leaf({2, 2}, at::kBFloat16)}}, PrecisionPlan()),
               c10::Error);
}

}  // namespace
}  // namespace liger::trainer
