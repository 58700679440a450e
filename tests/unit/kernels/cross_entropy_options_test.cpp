// What the op table does not ask of cross entropy with options.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernels/cross_entropy/cross_entropy.h"

namespace liger::kernels {
namespace {

using ::testing::HasSubstr;

struct Inputs {
  at::Tensor logits, target, weight;
};

Inputs MakeInputs(at::ScalarType dtype = at::kFloat) {
  at::manual_seed(3);
  Inputs in{at::randn({9, 130}).to(dtype) * 4, at::randint(130, {9}, at::kLong),
            at::rand({130}) + 0.5};
  in.target.narrow(0, 2, 3).fill_(kIgnoreIndex);
  return in;
}

CrossEntropyOptions AllOptions(const at::Tensor& weight, Reduction reduction) {
  return {.reduction = reduction,
          .scale = 0.5,
          .label_smoothing = 0.1,
          .softcap = 6,
          .lse_square_scale = 0.01,
          .class_weight_V = weight,
          .token_stats = true};
}

TEST(CrossEntropyOptionsTest, InPlaceGivesTheSameBits) {
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kDouble}) {
    for (const auto reduction : {Reduction::kNone, Reduction::kSum, Reduction::kMean}) {
      const Inputs in = MakeInputs(dtype);
      const auto options = AllOptions(in.weight, reduction);
      const at::Tensor leaf = in.logits.clone().requires_grad_();
      const auto out = CrossEntropyWithOptions(leaf, in.target, options);
      const at::Tensor grad = torch::autograd::grad({out.loss.sum()}, {leaf})[0];
      at::Tensor buffer = in.logits.clone();
      const auto placed = CrossEntropyWithOptionsAndGradInPlace(buffer, in.target, options);
      EXPECT_TRUE(placed.loss.equal(out.loss)) << dtype;
      EXPECT_TRUE(placed.z_loss.equal(out.z_loss)) << dtype;
      EXPECT_TRUE(placed.argmax_T.equal(out.argmax_T)) << dtype;
      EXPECT_TRUE(buffer.equal(grad)) << dtype;
    }
  }
}

// Without options it is the plain op, up to the order of roundings.
TEST(CrossEntropyOptionsTest, PlainSumIsCrossEntropy) {
  const Inputs in = MakeInputs(at::kDouble);
  const auto out =
      CrossEntropyWithOptions(in.logits, in.target, {.reduction = Reduction::kSum, .scale = 0.3});
  EXPECT_NEAR(out.loss.item<double>(), CrossEntropy(in.logits, in.target, 0.3).item<double>(),
              1e-12);
  EXPECT_EQ(out.z_loss.item<double>(), 0);
  EXPECT_FALSE(out.entropy_T.defined());
}

TEST(CrossEntropyOptionsTest, MeanOverNoTargetIsZero) {
  const at::Tensor weight = MakeInputs().weight;
  for (const int64_t rows : {0, 9}) {
    at::Tensor logits = MakeInputs().logits.narrow(0, 0, rows).clone().requires_grad_();
    const at::Tensor target = at::full({rows}, kIgnoreIndex, at::kLong);
    const auto out = CrossEntropyWithOptions(logits, target, AllOptions(weight, Reduction::kMean));
    EXPECT_EQ(out.loss.item<float>(), 0);
    const at::Tensor grad = torch::autograd::grad({out.loss}, {logits})[0];
    EXPECT_TRUE(grad.equal(at::zeros_like(grad)));
  }
}

TEST(CrossEntropyOptionsTest, ArgmaxIsTheFirstOfEquals) {
  const at::Tensor logits = at::zeros({2, 5000});
  logits[0][4000] = logits[0][4990] = 1;
  const auto out = CrossEntropyWithOptions(logits, at::zeros({2}, at::kLong),
                                           {.softcap = 2, .token_stats = true});
  EXPECT_EQ(out.argmax_T[0].item<int64_t>(), 4000);
  EXPECT_EQ(out.argmax_T[1].item<int64_t>(), 0);
}

TEST(CrossEntropyOptionsTest, LogitsNeedNotBeContiguous) {
  const Inputs in = MakeInputs();
  const auto options = AllOptions(in.weight, Reduction::kSum);
  const at::Tensor expected = CrossEntropyWithOptions(in.logits, in.target, options).loss;
  const at::Tensor wide = at::randn({9, 137});
  wide.narrow(1, 3, 130).copy_(in.logits);
  const at::Tensor turned = in.logits.t().contiguous().t();
  for (at::Tensor view : {wide.narrow(1, 3, 130), turned}) {
    view = view.detach().requires_grad_();
    const auto out = CrossEntropyWithOptions(view, in.target, options);
    EXPECT_TRUE(out.loss.equal(expected));
    at::Tensor buffer = in.logits.clone();
    CrossEntropyWithOptionsAndGradInPlace(buffer, in.target, options);
    EXPECT_TRUE(torch::autograd::grad({out.loss}, {view})[0].equal(buffer));
  }
}

// Rows of equal logits so far out that a logsumexp in one number is the logit itself: log V is
// the loss nevertheless, and 1 / V each class's probability.
TEST(CrossEntropyOptionsTest, EqualLogitsOfAnySizeHaveTheLossLogV) {
  constexpr int64_t kV = 130;
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble}) {
    const double largest = dtype == at::kHalf ? 65504 : dtype == at::kBFloat16 ? 3.38e38 : 3.4e38;
    for (const double z : {-largest, -1e3, 1e3, 2e9, 1e17, largest}) {
      if (std::abs(z) > largest) continue;
      SCOPED_TRACE(c10::str(dtype, " ", z));
      const at::Tensor logits = at::full({2, kV}, z, at::kDouble).to(dtype);
      const at::Tensor target = at::tensor({0, 7}, at::kLong);
      at::Tensor expected = at::full({2, kV}, 1.0 / kV, at::kDouble);
      expected.scatter_add_(1, target.unsqueeze(1), at::full({2, 1}, -1, at::kDouble));
      const auto expect = [&](const at::Tensor& loss, const at::Tensor& grad) {
        EXPECT_NEAR(loss.item<double>(), 2 * std::log(kV), 1e-5);
        const double relative = dtype == at::kBFloat16 ? 4e-3 : 1e-3;
        EXPECT_TRUE(at::allclose(grad.to(at::kDouble), expected, relative, 1e-7)) << grad;
      };
      const at::Tensor leaf = logits.clone().requires_grad_();
      const at::Tensor plain = CrossEntropy(leaf, target);
      expect(plain, torch::autograd::grad({plain}, {leaf})[0]);
      // Neither smoothing nor z-loss, which are sums of such logits: the options' own loops.
      const at::Tensor with =
          CrossEntropyWithOptions(leaf, target, {.reduction = Reduction::kSum}).loss;
      expect(with, torch::autograd::grad({with}, {leaf})[0]);
      at::Tensor place = logits.clone();
      const at::Tensor loss = CrossEntropyAndGradInPlace(place, target);
      expect(loss, place);
    }
  }
}

TEST(CrossEntropyOptionsTest, NoRowsHaveALossOfPlusZero) {
  const at::Tensor target = at::empty({0}, at::kLong);
  at::Tensor logits = at::empty({0, 5});
  for (const at::Tensor& loss :
       {CrossEntropy(logits, target), CrossEntropyAndGradInPlace(logits, target),
        CrossEntropyWithOptions(logits, target, {.reduction = Reduction::kSum}).loss}) {
    EXPECT_EQ(loss.item<float>(), 0);
    EXPECT_FALSE(std::signbit(loss.item<float>()));
  }
}

TEST(CrossEntropyOptionsTest, BadInput) {
  const Inputs in = MakeInputs();
  const auto message = [&](const at::Tensor& logits, const at::Tensor& target,
                           const CrossEntropyOptions& options) -> std::string {
    try {
      CrossEntropyWithOptions(logits, target, options);
    } catch (const c10::Error& error) {
      return error.what_without_backtrace();
    }
    return "accepted";
  };
  EXPECT_THAT(message(in.logits[0], in.target, {}), HasSubstr("cross_entropy: logits"));
  EXPECT_THAT(message(in.logits, in.target.narrow(0, 0, 8), {}), HasSubstr("target has shape [8]"));
  EXPECT_THAT(message(in.logits, at::full({9}, 130, at::kLong), {}), HasSubstr("target[0] is 130"));
  EXPECT_THAT(message(in.logits, in.target, {.class_weight_V = at::ones({129})}),
              HasSubstr("class_weight has shape [129]"));
  EXPECT_THAT(message(in.logits, in.target, {.class_weight_V = at::ones({130}, at::kDouble)}),
              HasSubstr("class_weight has dtype Double"));
  EXPECT_THAT(message(in.logits, in.target, {.label_smoothing = 1.5}),
              HasSubstr("label_smoothing is 1.5"));
  EXPECT_THAT(message(in.logits, in.target, {.softcap = -1}), HasSubstr("softcap is -1"));
  EXPECT_THAT(message(in.logits, in.target, {.lse_square_scale = -1}),
              HasSubstr("lse_square_scale is -1"));
  EXPECT_THAT(message(in.logits, in.target, {.lse_square_scale = std::nan("")}),
              HasSubstr("lse_square_scale is nan"));
  at::Tensor leaf = in.logits.clone().requires_grad_();
  EXPECT_THROW(CrossEntropyWithOptionsAndGradInPlace(leaf, in.target, {}), c10::Error);
}

}  // namespace
}  // namespace liger::kernels
