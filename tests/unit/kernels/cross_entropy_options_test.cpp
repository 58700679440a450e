// What the op table does not ask of cross entropy with options.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

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
  torch::manual_seed(3);
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
  at::Tensor leaf = in.logits.clone().requires_grad_();
  EXPECT_THROW(CrossEntropyWithOptionsAndGradInPlace(leaf, in.target, {}), c10::Error);
}

}  // namespace
}  // namespace liger::kernels
