#include "worker/trainer/objectives/orpo.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace liger::trainer {
namespace {

// In long double, straight from the definition.
double LogOddsRatio(double chosen, double rejected) {
  const auto log_odds = [](long double logp) { return logp - std::log(-std::expm1(logp)); };
  return static_cast<double>(log_odds(chosen) - log_odds(rejected));
}

TEST(OddsRatioTest, IsExactFromCertainToImpossible) {
  for (const double chosen : {-1e-9, -1e-3, -0.5, -0.6931471805599453, -0.7, -3.0, -40.0, -700.0}) {
    for (const double rejected : {-1e-6, -0.69, -2.0, -100.0}) {
      const OddsRatio odds = ComputeOddsRatio(at::full({1}, chosen, at::kDouble),
                                              at::full({1}, rejected, at::kDouble));
      const double expected = LogOddsRatio(chosen, rejected);
      EXPECT_NEAR(odds.log_odds_P.item<double>(), expected, 1e-9 * (1 + std::abs(expected)));
    }
  }
}

TEST(OddsRatioTest, GradientIsFiniteEverywhere) {
  for (const double logp : {0.0, -1e-12, -1e-5, -0.6931471805599453, -50.0, -1000.0}) {
    const at::Tensor chosen = at::full({1}, logp, at::kDouble).requires_grad_();
    const at::Tensor rejected = at::full({1}, -1.0, at::kDouble).requires_grad_();
    ComputeOddsRatio(chosen, rejected).log_sigmoid_P.sum().backward();
    EXPECT_TRUE(std::isfinite(chosen.grad().item<double>())) << logp;
    EXPECT_TRUE(std::isfinite(rejected.grad().item<double>())) << logp;
  }
}

TEST(OddsRatioTest, GradientIsTheDerivative) {
  const double chosen = -0.4, rejected = -1.3, step = 1e-6;
  const at::Tensor x = at::full({1}, chosen, at::kDouble).requires_grad_();
  ComputeOddsRatio(x, at::full({1}, rejected, at::kDouble)).log_sigmoid_P.sum().backward();
  const auto value = [&](double c) { return -std::log1p(std::exp(-LogOddsRatio(c, rejected))); };
  const double numeric = (value(chosen + step) - value(chosen - step)) / (2 * step);
  EXPECT_NEAR(x.grad().item<double>(), numeric, 1e-7);
}

}  // namespace
}  // namespace liger::trainer
