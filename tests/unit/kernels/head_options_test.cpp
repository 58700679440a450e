// What the op table does not ask of the fused heads with options.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <string>

#include "kernels/fused_linear_cross_entropy/fused_linear_cross_entropy.h"
#include "kernels/fused_linear_logprob/fused_linear_logprob.h"

namespace liger::kernels {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kT = 19, kH = 24, kV = 131;

struct Head {
  at::Tensor hidden, weight, bias, target, token_weight;

  at::Tensor valid_rows() const { return at::nonzero(target != kIgnoreIndex).view(-1); }
};

Head MakeHead(at::ScalarType dtype = at::kFloat) {
  at::manual_seed(3);
  Head head{.hidden = at::randn({kT, kH}).to(dtype).requires_grad_(true),
            .weight = at::randn({kV, kH}).to(dtype).requires_grad_(true),
            .bias = at::randn({kV}).to(dtype).requires_grad_(true),
            .target = at::randint(kV, {kT}, at::kLong),
            .token_weight = at::rand({kT})};
  head.target.narrow(0, 4, 5).fill_(kIgnoreIndex);
  return head;
}

FusedLinearCrossEntropyOptions AllOptions(const Head& head) {
  return {.scale = 0.5,
          .token_stats = true,
          .token_weight_T = head.token_weight,
          .softcap = 5,
          .temperature = 1.3,
          .label_smoothing = 0.1,
          .lse_square_scale = 1e-2};
}

double RelativeError(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.detach().to(at::kDouble), y = b.detach().to(at::kDouble);
  return ((x - y).norm() / y.norm()).item<double>();
}

// What an upstream gradient other than 1 multiplies is not rounded yet: the result is as far from
// the exact gradient as that gradient rounded once (twice: 1.5 times as far).
TEST(HeadOptionsTest, UpstreamGradientComesBeforeRounding) {
  constexpr int64_t kTokens = 64, kHidden = 128, kVocab = 9001;
  for (const auto dtype : {at::kBFloat16, at::kHalf}) {
    at::manual_seed(3);
    const at::Tensor hidden = at::randn({kTokens, kHidden}).to(dtype);
    const at::Tensor weight = (at::randn({kVocab, kHidden}) / std::sqrt(kHidden)).to(dtype);
    const at::Tensor target = at::randint(kVocab, {kTokens}, at::kLong);
    const auto gradient = [&](at::ScalarType as, const auto& op) {
      const at::Tensor x = hidden.to(as).detach().requires_grad_();
      const at::Tensor w = weight.to(as).detach().requires_grad_();
      const at::Tensor loss = op(x, w, target, std::nullopt, FusedLinearCrossEntropyOptions{}).loss;
      return torch::autograd::grad({loss}, {x}, {at::full_like(loss, 0.7)})[0];
    };
    const at::Tensor exact = gradient(at::kDouble, baseline::FusedLinearCrossEntropy);
    EXPECT_LE(RelativeError(gradient(dtype, FusedLinearCrossEntropy), exact),
              1.1 * RelativeError(exact.to(dtype), exact))
        << dtype;
  }
}

TEST(HeadOptionsTest, BuffersGetTheGradientOfTheOptions) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const Head a = MakeHead(dtype), b = MakeHead(dtype);
    auto options = AllOptions(a);
    FusedLinearCrossEntropy(a.hidden, a.weight, a.target, a.bias, options).loss.backward();
    at::Tensor grad_weight = at::ones({kV, kH}), grad_bias = at::ones({kV});
    options.grad_weight_VH = grad_weight;
    options.grad_bias_V = grad_bias;
    FusedLinearCrossEntropy(b.hidden, b.weight, b.target, b.bias, options).loss.backward();
    const double tolerance = dtype == at::kFloat ? 1e-5 : 4e-3;
    EXPECT_LT(RelativeError(grad_weight - 1, a.weight.grad()), tolerance);
    EXPECT_LT(RelativeError(grad_bias - 1, a.bias.grad()), tolerance);
    EXPECT_LT(RelativeError(b.hidden.grad(), a.hidden.grad()), tolerance);
    EXPECT_FALSE(b.weight.grad().defined());
  }
}

TEST(HeadOptionsTest, LogprobBuffersGetTheGradientOfTheOptions) {
  const Head a = MakeHead(), b = MakeHead();
  const at::Tensor upstream = at::randn({kT});
  FusedLinearLogprobOptions options{.softcap = 5, .temperature = 0.7};
  FusedLinearLogprob(a.hidden, a.weight, a.target, a.bias, options).logp_T.backward(upstream);
  at::Tensor grad_weight = at::zeros({kV, kH}), grad_bias = at::zeros({kV});
  options.grad_weight_VH = grad_weight;
  options.grad_bias_V = grad_bias;
  options.valid_rows_M = b.valid_rows();
  FusedLinearLogprob(b.hidden, b.weight, b.target, b.bias, options).logp_T.backward(upstream);
  EXPECT_LT(RelativeError(grad_weight, a.weight.grad()), 1e-5);
  EXPECT_LT(RelativeError(grad_bias, a.bias.grad()), 1e-5);
  EXPECT_LT(RelativeError(b.hidden.grad(), a.hidden.grad()), 1e-5);
}

TEST(HeadOptionsTest, RowsHandedInGiveTheSameBits) {
  const Head head = MakeHead();
  auto options = AllOptions(head);
  const auto expected =
      FusedLinearCrossEntropy(head.hidden, head.weight, head.target, head.bias, options);
  options.valid_rows_M = head.valid_rows();
  const auto out =
      FusedLinearCrossEntropy(head.hidden, head.weight, head.target, head.bias, options);
  EXPECT_TRUE(out.loss.equal(expected.loss));
  EXPECT_TRUE(out.entropy_T.equal(expected.entropy_T));
  const auto logp = FusedLinearLogprob(head.hidden, head.weight, head.target);
  const auto with_rows = FusedLinearLogprob(head.hidden, head.weight, head.target, std::nullopt,
                                            {.valid_rows_M = head.valid_rows()});
  EXPECT_TRUE(with_rows.logp_T.equal(logp.logp_T));
}

// Over several chunks of tokens the loss and its gradients are those of the tokens apart.
TEST(HeadOptionsTest, ChunksAddUp) {
  at::manual_seed(3);
  constexpr int64_t kTokens = 70, kVocab = 262147;
  const at::Tensor hidden = at::randn({kTokens, 3}), weight = at::randn({kVocab, 3});
  const at::Tensor target = at::randint(kVocab, {kTokens}, at::kLong);
  const at::Tensor token_weight = at::rand({kTokens}) + 0.5;
  const auto run = [&](int64_t begin, int64_t end, const at::Tensor& grad_weight) {
    const at::Tensor own = hidden.slice(0, begin, end).clone().requires_grad_();
    const at::Tensor loss =
        FusedLinearCrossEntropy(own, weight, target.slice(0, begin, end), std::nullopt,
                                {.grad_weight_VH = grad_weight,
                                 .token_weight_T = token_weight.slice(0, begin, end),
                                 .softcap = 3,
                                 .temperature = 0.8,
                                 .label_smoothing = 0.1,
                                 .lse_square_scale = 1e-2})
            .loss;
    loss.backward();
    return std::pair(loss.item<double>(), own.grad());
  };
  const at::Tensor whole_weight = at::zeros({kVocab, 3}), parts_weight = at::zeros({kVocab, 3});
  const auto [loss, grad] = run(0, kTokens, whole_weight);
  const auto [first, first_grad] = run(0, 20, parts_weight);
  const auto [second, second_grad] = run(20, kTokens, parts_weight);
  EXPECT_NEAR(loss, first + second, 1e-5 * loss);
  EXPECT_LT(RelativeError(grad, at::cat({first_grad, second_grad})), 1e-5);
  EXPECT_LT(RelativeError(whole_weight, parts_weight), 1e-5);
}

// A row of weight 0 is a row without loss.
TEST(HeadOptionsTest, WeightZeroIsIgnored) {
  const Head a = MakeHead(), b = MakeHead();
  const at::Tensor weight = a.target.ne(kIgnoreIndex).to(at::kFloat);
  const auto expected = FusedLinearCrossEntropy(a.hidden, a.weight, a.target).loss;
  const at::Tensor every_target = a.target.clamp_min(0);
  const auto loss = FusedLinearCrossEntropy(b.hidden, b.weight, every_target, std::nullopt,
                                            {.token_weight_T = weight})
                        .loss;
  EXPECT_NEAR(loss.item<double>(), expected.item<double>(), 1e-4);
  expected.backward();
  loss.backward();
  EXPECT_LT(RelativeError(b.hidden.grad(), a.hidden.grad()), 1e-6);
  EXPECT_LT(RelativeError(b.weight.grad(), a.weight.grad()), 1e-5);
}

TEST(HeadOptionsTest, BadInput) {
  const Head head = MakeHead();
  const auto message = [&](const FusedLinearCrossEntropyOptions& options) -> std::string {
    try {
      FusedLinearCrossEntropy(head.hidden, head.weight, head.target, head.bias, options);
    } catch (const c10::Error& error) {
      return error.what_without_backtrace();
    }
    return "accepted";
  };
  EXPECT_THAT(message({.softcap = -1}), HasSubstr("softcap is -1"));
  EXPECT_THAT(message({.temperature = 0}), HasSubstr("temperature is 0"));
  EXPECT_THAT(message({.label_smoothing = 1.5}), HasSubstr("label_smoothing is 1.5"));
  EXPECT_THAT(message({.lse_square_scale = -1}), HasSubstr("lse_square_scale is -1"));
  EXPECT_THAT(message({.token_weight_T = at::ones({kT - 1})}),
              HasSubstr("token_weight has shape [18]"));
  EXPECT_THAT(message({.token_weight_T = at::ones({kT}, at::kDouble)}),
              HasSubstr("token_weight has dtype Double"));
  EXPECT_THAT(message({.valid_rows_M = at::arange(kT)}),
              HasSubstr("valid_rows of shape [19] are not where target differs from -100"));
  EXPECT_THAT(message({.valid_rows_M = at::ones({2})}), HasSubstr("valid_rows has dtype Float"));
  const auto logprob = [&](const FusedLinearLogprobOptions& options) {
    FusedLinearLogprob(head.hidden, head.weight, head.target, head.bias, options);
  };
  EXPECT_THROW(logprob({.softcap = -1}), c10::Error);
  EXPECT_THROW(logprob({.temperature = -1}), c10::Error);
  EXPECT_THROW(logprob({.valid_rows_M = at::arange(kT)}), c10::Error);
}

}  // namespace
}  // namespace liger::kernels
