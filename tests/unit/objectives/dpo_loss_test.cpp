// What DPO's losses have that TRL 1.16 has not (preference_golden_test.cpp has the rest): against
// formulas in plain doubles.
#include "worker/trainer/objectives/dpo_loss.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace liger::trainer {
namespace {

constexpr double kBeta = 0.3, kEpsilon = 0.15;

at::Tensor Values(std::vector<double> values) { return at::tensor(values, at::kDouble); }

// Margins from far below 0 to far above it.
DpoInput Input() {
  DpoInput in = {.chosen_logp_P = Values({-10, -300, -4, -2000, -7}).requires_grad_(),
                 .rejected_logp_P = Values({-12, -90, -4, -30, -2500}),
                 .ref_chosen_logp_P = Values({-11, -200, -4, -20, -9}),
                 .ref_rejected_logp_P = Values({-11.5, -100, -4, -40, -30}),
                 .chosen_length_P = Values({3, 40, 1, 9, 2}),
                 .rejected_length_P = Values({5, 8, 2, 7, 60})};
  in.chosen_nll_P = -in.chosen_logp_P / 10;
  return in;
}

DpoOptions Options(const std::string& type, double smoothing) {
  DpoOptions options;
  options.beta = kBeta;
  options.loss_types = {type};
  options.label_smoothing = smoothing;
  return options;
}

double At(const at::Tensor& x_P, int64_t pair) { return x_P[pair].item<double>(); }

// beta times the difference of the log-ratios, or of their means a token.
double Margin(const DpoInput& in, int64_t p, bool by_token) {
  const double chosen = At(in.chosen_logp_P, p) - At(in.ref_chosen_logp_P, p);
  const double rejected = At(in.rejected_logp_P, p) - At(in.ref_rejected_logp_P, p);
  if (!by_token) return kBeta * (chosen - rejected);
  return kBeta * (chosen / At(in.chosen_length_P, p) - rejected / At(in.rejected_length_P, p));
}

// log(1 + e^-x), exact for all x.
double NegativeLogSigmoid(double x) {
  return x > 0 ? std::log1p(std::exp(-x)) : std::log1p(std::exp(x)) - x;
}

// Mitchell 2023, eq. 3, and its derivative by the margin: sigmoid(m) - (1 - e).
TEST(DpoLossTest, LabelSmoothingOfSigmoidIsTheNoteOfNoisyPreferences) {
  for (const std::string type : {"sigmoid", "sigmoid_norm"}) {
    const DpoInput in = Input();
    const at::Tensor loss_P = DpoLoss(in, Options(type, kEpsilon));
    loss_P.sum().backward();
    for (int64_t p = 0; p < loss_P.size(0); ++p) {
      const bool by_token = type == "sigmoid_norm";
      const double m = Margin(in, p, by_token);
      const double expected =
          (1 - kEpsilon) * NegativeLogSigmoid(m) + kEpsilon * NegativeLogSigmoid(-m);
      EXPECT_NEAR(At(loss_P, p), expected, 1e-12 * std::max(1.0, expected)) << type << p;
      const double slope = kBeta / (by_token ? At(in.chosen_length_P, p) : 1.0);
      const double derivative = (1 / (1 + std::exp(-m)) - (1 - kEpsilon)) * slope;
      EXPECT_NEAR(At(in.chosen_logp_P.grad(), p), derivative, 1e-12) << type << p;
    }
  }
}

// Chowdhury et al. 2024: the unbiased estimate of the plain loss, robust, times 1 - 2e is
// what cDPO is, less twice the part of the swapped pair.
TEST(DpoLossTest, SmoothedSigmoidAndRobustDifferByTheSwappedPair) {
  const DpoInput in = Input();
  DpoInput swapped = in;
  std::swap(swapped.chosen_logp_P, swapped.rejected_logp_P);
  std::swap(swapped.ref_chosen_logp_P, swapped.ref_rejected_logp_P);
  const at::Tensor smoothed_P = DpoLoss(in, Options("sigmoid", kEpsilon));
  const at::Tensor robust_P = DpoLoss(in, Options("robust", kEpsilon));
  const at::Tensor swapped_P = DpoLoss(swapped, Options("sigmoid", 0));
  EXPECT_TRUE(at::allclose(robust_P * (1 - 2 * kEpsilon), smoothed_P - 2 * kEpsilon * swapped_P,
                           1e-12, 1e-12));
}

TEST(DpoLossTest, WithoutSmoothingNothingIsAdded) {
  for (const std::string type : {"sigmoid", "sigmoid_norm"}) {
    const DpoInput in = Input();
    const at::Tensor loss_P = DpoLoss(in, Options(type, 0));
    for (int64_t p = 0; p < loss_P.size(0); ++p) {
      const double expected = NegativeLogSigmoid(Margin(in, p, type == "sigmoid_norm"));
      EXPECT_NEAR(At(loss_P, p), expected, 1e-12 * std::max(1.0, expected)) << type << p;
    }
  }
}

TEST(DpoLossTest, WpoWeighsEachPairsOwnNll) {
  DpoInput in = Input();
  in.weight_P = Values({0.5, 0.1, 0.9, 0, 1});
  const at::Tensor loss_P = DpoLoss(in, Options("sft", 0));
  for (int64_t p = 0; p < loss_P.size(0); ++p) {
    EXPECT_DOUBLE_EQ(At(loss_P, p), -At(in.chosen_logp_P, p) / 10 * At(in.weight_P, p));
  }
}

}  // namespace
}  // namespace liger::trainer
