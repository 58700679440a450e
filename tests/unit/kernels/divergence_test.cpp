// What the op table does not ask of the divergences.
#include "kernels/divergence/divergence.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>

namespace liger::kernels {
namespace {

using ::testing::HasSubstr;

at::Tensor LogProbs(at::ScalarType dtype = at::kFloat) {
  return at::log_softmax(at::randn({7, 130}), 1).to(dtype);
}

// Forward's gradient is handed out once; what follows is computed again and is the same.
TEST(DivergenceTest, BackwardTwiceGivesTheSame) {
  at::manual_seed(5);
  const at::Tensor x = LogProbs().requires_grad_(), y = LogProbs();
  const at::Tensor loss = Jsd(x, y);
  const at::Tensor three = at::full({}, 3.0f), one = at::ones({});
  const at::Tensor first = torch::autograd::grad({loss}, {x}, {three}, /*retain_graph=*/true)[0];
  const at::Tensor kept = first.clone();
  const at::Tensor second = torch::autograd::grad({loss}, {x}, {one}, /*retain_graph=*/true)[0];
  EXPECT_TRUE(first.equal(kept));
  EXPECT_TRUE(at::allclose(first, second * 3, 1e-6, 1e-12));
  EXPECT_GT(second.abs().max().item<float>(), 0);
  EXPECT_TRUE(torch::autograd::grad({loss}, {x}, {three})[0].equal(first));
}

TEST(DivergenceTest, ClassesOfProbabilityZeroCountNothing) {
  const float inf = std::numeric_limits<float>::infinity();
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    const at::Tensor log_q = at::tensor({-inf, 0.0f, -inf}).view({1, 3}).to(dtype);
    const at::Tensor log_p =
        at::tensor({-inf, std::log(0.5f), std::log(0.5f)}).view({1, 3}).to(dtype);
    EXPECT_EQ(KlDiv(log_p, log_q, {.log_target = true}).item<float>(), std::log(2.0f));
    EXPECT_EQ(KlDiv(log_p, log_q.exp()).item<float>(), std::log(2.0f));
    // p log p/m + q log q/m over m = (0, 3/4, 1/4).
    const double expected =
        (0.5 * std::log(0.5 / 0.75) + 0.5 * std::log(0.5 / 0.25) + std::log(1 / 0.75)) / 2;
    EXPECT_NEAR(Jsd(log_q, log_p).item<double>(), expected, 1e-6);
    EXPECT_EQ(KlDiv(log_q, log_p, {.log_target = true}).item<float>(), inf);
  }
}

TEST(DivergenceTest, EqualDistributionsAreAtZero) {
  at::manual_seed(5);
  for (const double beta : {0.0, 0.3, 1.0}) {
    const at::Tensor x = LogProbs(at::kDouble);
    EXPECT_NEAR(Jsd(x, x, std::nullopt, {.beta = beta}).item<double>(), 0, 1e-14) << beta;
  }
}

TEST(DivergenceTest, TargetGetsNoGradient) {
  const at::Tensor x = LogProbs().requires_grad_(), y = LogProbs().requires_grad_();
  const auto grads =
      torch::autograd::grad({Jsd(x, y)}, {x, y}, {}, false, false, /*allow_unused=*/true);
  EXPECT_TRUE(grads[0].defined());
  EXPECT_FALSE(grads[1].defined());
}

TEST(DivergenceTest, BadInput) {
  const at::Tensor x = LogProbs(), y = LogProbs();
  const auto message = [](const std::function<void()>& call) -> std::string {
    try {
      call();
    } catch (const c10::Error& error) {
      return error.what_without_backtrace();
    }
    return "accepted";
  };
  EXPECT_THAT(message([&] { KlDiv(x[0], y[0]); }), HasSubstr("kl_div: log_q has shape [130]"));
  EXPECT_THAT(message([&] { KlDiv(x, y.narrow(0, 0, 3)); }),
              HasSubstr("kl_div: target has shape [3, 130]"));
  EXPECT_THAT(message([&] { KlDiv(x, y.to(at::kDouble)); }),
              HasSubstr("kl_div: target has dtype Double"));
  EXPECT_THAT(message([&] { KlDiv(x, y, {.eps = -1}); }), HasSubstr("kl_div: eps is -1"));
  EXPECT_THAT(message([&] { Jsd(x, y, std::nullopt, {.beta = 1.5}); }),
              HasSubstr("jsd: beta is 1.5"));
  EXPECT_THAT(message([&] { Jsd(x, y, at::zeros({6}, at::kLong)); }),
              HasSubstr("jsd: label has shape [6]"));
  EXPECT_THAT(message([&] { Tvd(x, y, at::zeros({7})); }), HasSubstr("tvd: label has dtype Float"));
  EXPECT_THAT(message([&] { Tvd(x.to(at::kInt), y); }), HasSubstr("tvd: p has dtype Int"));
}

}  // namespace
}  // namespace liger::kernels
