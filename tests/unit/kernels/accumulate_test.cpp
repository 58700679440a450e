// In-place and accumulating forms, and which gradients the fused heads make and skip.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "kernels/cross_entropy/cross_entropy.h"
#include "kernels/fused_linear_cross_entropy/fused_linear_cross_entropy.h"
#include "kernels/fused_linear_logprob/fused_linear_logprob.h"
#include "kernels/linear/linear.h"
#include "kernels/rope/rope.h"

namespace liger::kernels {
namespace {

constexpr int64_t kT = 19, kH = 24, kV = 131;

struct Head {
  at::Tensor hidden, weight, bias, target;
};

Head MakeHead(c10::ScalarType dtype = at::kFloat) {
  at::manual_seed(3);
  Head head{.hidden = at::randn({kT, kH}).to(dtype).requires_grad_(true),
            .weight = at::randn({kV, kH}).to(dtype).requires_grad_(true),
            .bias = at::randn({kV}).to(dtype).requires_grad_(true),
            .target = at::randint(kV, {kT}, at::kLong)};
  head.target.narrow(0, 4, 5).fill_(kIgnoreIndex);
  return head;
}

void ExpectClose(const at::Tensor& a, const at::Tensor& b, double tolerance = 1e-5) {
  const at::Tensor x = a.detach().to(at::kDouble), y = b.detach().to(at::kDouble);
  ASSERT_EQ(x.sizes(), y.sizes());
  EXPECT_LE((x - y).norm().item<double>(), tolerance * y.norm().item<double>());
}

TEST(AccumulateTest, CrossEntropyAddsTheHeadsGradientInForward) {
  const Head a = MakeHead(), b = MakeHead();
  const at::Tensor expected =
      FusedLinearCrossEntropy(a.hidden, a.weight, a.target, a.bias, {.scale = 0.5}).loss;
  expected.backward();

  at::Tensor grad_weight = at::ones({kV, kH}), grad_bias = at::ones({kV});
  const at::Tensor loss =
      FusedLinearCrossEntropy(
          b.hidden, b.weight, b.target, b.bias,
          {.scale = 0.5, .grad_weight_VH = grad_weight, .grad_bias_V = grad_bias})
          .loss;
  ExpectClose(grad_weight - 1, a.weight.grad());
  ExpectClose(grad_bias - 1, a.bias.grad());
  loss.backward();
  ExpectClose(loss, expected);
  ExpectClose(b.hidden.grad(), a.hidden.grad());
  EXPECT_FALSE(b.weight.grad().defined());
  EXPECT_FALSE(b.bias.grad().defined());
}

// The gradients of a product that is not computed.
TEST(LinearForGradientsTest, HasTheGradientsOfLinearAndNoValue) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const at::Tensor dy = at::randn({kT, kV}).to(dtype);
    const auto run = [&](const auto& linear) {
      const Head head = MakeHead(dtype);
      const at::Tensor y = linear(head.hidden, head.weight, head.bias);
      (y + at::ones({kT, kV}, y.options())).backward(dy);
      return std::vector{y.detach(), head.hidden.grad(), head.weight.grad(), head.bias.grad()};
    };
    const auto expected = run(Linear), ours = run(LinearForGradients);
    EXPECT_TRUE(ours[0].isnan().all().item<bool>());
    EXPECT_EQ(ours[0].sizes(), expected[0].sizes());
    EXPECT_EQ(ours[0].storage().nbytes(), ours[0].element_size());
    for (size_t i = 1; i < 4; ++i) EXPECT_TRUE(ours[i].equal(expected[i])) << i;
  }
  const Head head = MakeHead();
  EXPECT_THROW(LinearForGradients(head.hidden, head.weight.t(), std::nullopt), c10::Error);
}

TEST(AccumulateTest, CrossEntropyRefusesAnUpstreamFactor) {
  const Head head = MakeHead();
  at::Tensor grad_weight = at::zeros({kV, kH});
  const at::Tensor loss = FusedLinearCrossEntropy(head.hidden, head.weight, head.target,
                                                  std::nullopt, {.grad_weight_VH = grad_weight})
                              .loss;
  EXPECT_THROW((loss * 2).backward(), c10::Error);
}

TEST(AccumulateTest, EvaluationLeavesTheBufferAlone) {
  const Head head = MakeHead();
  const at::NoGradGuard no_grad;
  at::Tensor grad_weight = at::zeros({kV, kH});
  const at::Tensor loss = FusedLinearCrossEntropy(head.hidden, head.weight, head.target,
                                                  std::nullopt, {.grad_weight_VH = grad_weight})
                              .loss;
  EXPECT_FALSE(loss.requires_grad());
  EXPECT_EQ(grad_weight.abs().max().item<float>(), 0);
}

TEST(AccumulateTest, ABufferForOneHeadParameterNeedsOneForTheOther) {
  const Head head = MakeHead();
  at::Tensor grad_weight = at::zeros({kV, kH});
  EXPECT_THROW(FusedLinearCrossEntropy(head.hidden, head.weight, head.target, head.bias,
                                       {.grad_weight_VH = grad_weight}),
               c10::Error);
  EXPECT_THROW(FusedLinearLogprob(head.hidden, head.weight, head.target, head.bias,
                                  {.grad_weight_VH = grad_weight}),
               c10::Error);
}

TEST(AccumulateTest, FrozenBodyStillTrainsTheHead) {
  const Head head = MakeHead();
  at::Tensor grad_weight = at::zeros({kV, kH});
  const at::Tensor loss = FusedLinearCrossEntropy(head.hidden.detach(), head.weight, head.target,
                                                  std::nullopt, {.grad_weight_VH = grad_weight})
                              .loss;
  loss.backward();
  EXPECT_GT(grad_weight.abs().max().item<float>(), 0);
}

TEST(AccumulateTest, LogprobAddsTheHeadsGradientInBackward) {
  const Head a = MakeHead(), b = MakeHead();
  const at::Tensor upstream = at::randn({kT});
  FusedLinearLogprob(a.hidden, a.weight, a.target, a.bias).logp_T.backward(upstream);
  at::Tensor grad_weight = at::ones({kV, kH}), grad_bias = at::ones({kV});
  const at::Tensor logp =
      FusedLinearLogprob(b.hidden, b.weight, b.target, b.bias,
                         {.grad_weight_VH = grad_weight, .grad_bias_V = grad_bias})
          .logp_T;
  EXPECT_EQ((grad_weight - 1).abs().max().item<float>(), 0);
  logp.backward(upstream);
  ExpectClose(grad_weight - 1, a.weight.grad());
  ExpectClose(grad_bias - 1, a.bias.grad());
  ExpectClose(b.hidden.grad(), a.hidden.grad());
  EXPECT_FALSE(b.weight.grad().defined());
}

// Sixteen micro-batches into a float32 buffer: no rounding to bfloat16 in between.
TEST(AccumulateTest, LowPrecisionHeadsSumInFloat32) {
  const Head head = MakeHead(at::kBFloat16);
  at::Tensor sum = at::zeros({kV, kH}), once = at::zeros({kV, kH});
  const auto add = [&](at::Tensor& buffer) {
    FusedLinearCrossEntropy(head.hidden, head.weight, head.target, std::nullopt,
                            {.grad_weight_VH = buffer});
  };
  add(once);
  for (int i = 0; i < 16; ++i) add(sum);
  ExpectClose(sum, once * 16, 1e-6);
  // The gradient itself is finer than bfloat16, too.
  EXPECT_FALSE(once.equal(once.to(at::kBFloat16).to(at::kFloat)));
}

TEST(AccumulateTest, LinearWeightGradient) {
  at::manual_seed(5);
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const at::Tensor g = at::randn({3, 7, 11}).to(dtype), x = at::randn({3, 7, 5}).to(dtype);
    at::Tensor acc = at::ones({11, 5});
    c10::Dispatcher::singleton()
        .findSchemaOrThrow("liger::linear_accumulate_weight_grad_", "")
        .typed<void(at::Tensor&, const at::Tensor&, const at::Tensor&)>()
        .call(acc, g, x);
    const at::Tensor expected = at::einsum("abn,abk->nk", {g.to(at::kDouble), x.to(at::kDouble)});
    ExpectClose(acc - 1, expected);
  }
}

TEST(AccumulateTest, CrossEntropyGradientOverTheLogits) {
  at::manual_seed(5);
  at::Tensor logits = at::randn({kT, kV}).requires_grad_(true);
  const at::Tensor target = MakeHead().target;
  CrossEntropy(logits, target, 0.25).backward();
  at::Tensor in_place = logits.detach().clone();
  const at::Tensor logsumexp = at::logsumexp(in_place.to(at::kDouble), {1});
  c10::Dispatcher::singleton()
      .findSchemaOrThrow("liger::cross_entropy_backward_", "")
      .typed<void(at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&, double,
                  int64_t)>()
      .call(in_place, at::ones({}), target, logsumexp, 0.25, kIgnoreIndex);
  ExpectClose(in_place, logits.grad(), 1e-6);
}

// q and k as views of one projection, as a model has them.
TEST(AccumulateTest, RopeInPlaceOnViews) {
  at::manual_seed(5);
  at::Tensor qkv = at::randn({6, 5 * 8});
  at::Tensor q = qkv.narrow(1, 0, 24).view({6, 3, 8}), k = qkv.narrow(1, 24, 8).view({6, 1, 8});
  const at::Tensor angle = at::randn({6, 8}), cos = angle.cos(), sin = angle.sin();
  const auto [q_expected, k_expected] = baseline::Rope(q, k, cos, sin);
  const auto [q_new, k_new] = Rope(q, k, cos, sin);
  const at::Tensor v = qkv.narrow(1, 32, 8).clone();
  RopeInPlace(q, k, cos, sin);
  ExpectClose(q, q_expected, 1e-6);
  ExpectClose(k, k_expected, 1e-6);
  EXPECT_TRUE(q.equal(q_new));
  EXPECT_TRUE(k.equal(k_new));
  EXPECT_TRUE(qkv.narrow(1, 32, 8).equal(v));
  at::Tensor leaf = at::randn({6, 3, 8}).requires_grad_(true);
  EXPECT_THROW(RopeInPlace(leaf, k, cos, sin), c10::Error);
}

}  // namespace
}  // namespace liger::kernels
