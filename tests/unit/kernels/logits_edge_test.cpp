// Logits that are no numbers, or whose softmax is none, and targets that are no classes: what
// PyTorch makes of them in float64 is what every path makes of them. tests/gpu runs it on a GPU.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <limits>
#include <optional>
#include <string>

#include "kernels/common/logits_aten.h"
#include "kernels/cross_entropy/cross_entropy.h"
#include "kernels/fused_linear_cross_entropy/fused_linear_cross_entropy.h"
#include "kernels/fused_linear_logprob/fused_linear_logprob.h"
#include "test_device.h"

namespace liger::kernels {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
// The lowest bfloat16.
constexpr double kLowest = -3.3895313892515355e38;
constexpr at::ScalarType kDtypes[] = {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble};

at::Tensor OnDevice(const at::Tensor& t) { return t.to(kDevice); }

// Infinities and NaN at the same places, the rest within the dtype's rounding.
testing::AssertionResult IsClose(const at::Tensor& value, const at::Tensor& expected,
                                 double tolerance) {
  const at::Tensor v = value.detach().to(at::kCPU, at::kDouble), e = expected.detach();
  if (at::allclose(v, e, tolerance, tolerance, /*equal_nan=*/true)) {
    return testing::AssertionSuccess();
  }
  return testing::AssertionFailure() << "got\n" << v << "\nexpected\n" << e;
}

// Rows that are finite; of -inf before and after what is finite, and between; of a target at -inf;
// of -inf alone; with +inf, NaN, both.
at::Tensor EdgeRows(int64_t V) {
  at::Tensor z = at::randn({9, V}, at::kDouble) * 2;
  z[1].narrow(0, 0, V / 2).fill_(-kInf);
  z[2].narrow(0, V / 2, V - V / 2).fill_(-kInf);
  z[3].narrow(0, 1, V - 2).fill_(-kInf);
  z[4][V - 1] = -kInf;
  z[5].fill_(-kInf);
  z[6][1] = kInf;
  z[7][V / 2] = std::nan("");
  z[8][0] = std::nan("");
  z[8][1] = kInf;
  return z;
}

// A finite logit's, but for row 4.
at::Tensor EdgeTargets(int64_t V) {
  at::Tensor target = at::full({9}, V - 1, at::kLong);
  target[2] = 0;
  return target;
}

// For one backward pass each: of whole packs and not, of one block and several.
constexpr int64_t kSizes[] = {5, 2048, 40000, 40004};

struct Expected {
  at::Tensor loss, grad, logsumexp, entropy;
};

// PyTorch's, in float64, but that a row with +inf has a NaN logsumexp.
Expected PyTorchs(const at::Tensor& z, const at::Tensor& target, double label_smoothing) {
  const at::Tensor leaf = z.clone().requires_grad_();
  const at::Tensor loss =
      at::cross_entropy_loss(leaf, target, {}, at::Reduction::None, kIgnoreIndex, label_smoothing);
  const at::Tensor lse = at::logsumexp(z, {1}), logp = at::log_softmax(z, 1);
  return {.loss = loss.detach(),
          .grad = torch::autograd::grad({loss.sum()}, {leaf})[0],
          .logsumexp = lse.masked_fill(at::isposinf(lse), std::nan("")),
          .entropy = -at::where(logp.exp() == 0, at::zeros({}, at::kDouble), logp.exp() * logp)
                          .sum(1)};
}

TEST(LogitsEdgeTest, CrossEntropyWithOptions) {
  for (const int64_t V : kSizes) {
    for (const auto dtype : kDtypes) {
      for (const double smoothing : {0.0, 0.1}) {
        SCOPED_TRACE(c10::str(V, " ", dtype, " ", smoothing));
        at::manual_seed(3);
        const at::Tensor z = EdgeRows(V).to(dtype), target = EdgeTargets(V);
        const Expected e = PyTorchs(z.to(at::kDouble), target, smoothing);
        const at::Tensor leaf = OnDevice(z).requires_grad_();
        const auto out = CrossEntropyWithOptions(leaf, OnDevice(target),
                                                 {.reduction = Reduction::kNone,
                                                  .label_smoothing = smoothing,
                                                  .token_stats = true});
        EXPECT_TRUE(IsClose(out.loss, e.loss, 1e-5));
        EXPECT_TRUE(IsClose(out.logsumexp_T, e.logsumexp, 1e-5));
        EXPECT_TRUE(IsClose(out.entropy_T, e.entropy, 1e-4));
        EXPECT_TRUE(IsClose(torch::autograd::grad({out.loss.sum()}, {leaf})[0], e.grad, 1e-2));
      }
    }
  }
}

// Row by row: one NaN would be the sum of all.
TEST(LogitsEdgeTest, CrossEntropyAndItsInPlaceForm) {
  for (const int64_t V : kSizes) {
    for (const auto dtype : kDtypes) {
      at::manual_seed(3);
      const at::Tensor rows = EdgeRows(V).to(dtype), targets = EdgeTargets(V);
      const Expected e = PyTorchs(rows.to(at::kDouble), targets, 0);
      for (int64_t row = 0; row < rows.size(0); ++row) {
        SCOPED_TRACE(c10::str(V, " ", dtype, " row ", row));
        const at::Tensor z = OnDevice(rows.narrow(0, row, 1).clone()).requires_grad_();
        const at::Tensor target = OnDevice(targets.narrow(0, row, 1));
        const at::Tensor loss = CrossEntropy(z, target), grad = e.grad.narrow(0, row, 1);
        EXPECT_TRUE(IsClose(loss, e.loss[row], 1e-5));
        EXPECT_TRUE(IsClose(torch::autograd::grad({loss}, {z})[0], grad, 1e-2));
        at::Tensor place = z.detach().clone();
        EXPECT_TRUE(IsClose(CrossEntropyAndGradInPlace(place, target), e.loss[row], 1e-5));
        EXPECT_TRUE(IsClose(place, grad, 1e-2));
      }
    }
  }
}

// Masks that are numbers, over all that some warps have of a row.
TEST(LogitsEdgeTest, FiniteMasks) {
  for (const int64_t V : kSizes) {
    for (const auto dtype : kDtypes) {
      for (const double mask : {-1e4, -2e9, -1e10, -1e20, -1e30, kLowest}) {
        if (dtype == at::kHalf && mask < -65504) continue;
        SCOPED_TRACE(c10::str(V, " ", dtype, " ", mask));
        at::manual_seed(4);
        at::Tensor z = at::randn({3, V}, at::kDouble) * 2;
        z[1].narrow(0, 0, V / 2).fill_(mask);
        z[2].narrow(0, 1, V - 2).fill_(mask);
        z = z.to(dtype);
        const at::Tensor target = at::tensor({V - 1, V - 1, int64_t{0}}, at::kLong);
        const Expected e = PyTorchs(z.to(at::kDouble), target, 0);
        const at::Tensor leaf = OnDevice(z).requires_grad_();
        const at::Tensor loss = CrossEntropy(leaf, OnDevice(target));
        EXPECT_TRUE(IsClose(loss, e.loss.sum(), 1e-5));
        EXPECT_TRUE(IsClose(torch::autograd::grad({loss}, {leaf})[0], e.grad, 1e-2));
        at::Tensor place = leaf.detach().clone();
        const at::Tensor again = CrossEntropyAndGradInPlace(place, OnDevice(target));
        EXPECT_TRUE(IsClose(again, e.loss.sum(), 1e-5));
        EXPECT_TRUE(IsClose(place, e.grad, 1e-2));
      }
    }
  }
}

// Classes that a bias rules out for all tokens, some before and some after the others.
TEST(LogitsEdgeTest, HeadsWithClassesRuledOut) {
  for (const int64_t V : kSizes) {
    for (const auto dtype : kDtypes) {
      for (const bool capped : {false, true}) {
        SCOPED_TRACE(c10::str(V, " ", dtype, " ", capped));
        at::manual_seed(3);
        const at::Tensor hidden = at::randn({6, 8}).to(dtype), weight = at::randn({V, 8}).to(dtype);
        at::Tensor bias = at::zeros({V}).to(dtype);
        bias.narrow(0, 0, V / 2).fill_(-kInf);
        bias[V - 1] = -kInf;
        const at::Tensor target = at::full({6}, V - 2, at::kLong);
        const double temperature = capped ? 0.5 : 1;
        // As the op sees them: rounded to the dtype.
        const at::Tensor z = at::linear(hidden, weight, bias).to(at::kDouble) / temperature;
        const Expected e = PyTorchs(z, target, 0);
        const auto out = FusedLinearLogprob(
            OnDevice(hidden), OnDevice(weight), OnDevice(target), OnDevice(bias),
            {.token_stats = true, .temperature = temperature});
        const double tolerance = dtype == at::kDouble || dtype == at::kFloat ? 1e-4 : 0.1;
        EXPECT_TRUE(IsClose(out.logp_T, -e.loss, tolerance));
        EXPECT_TRUE(IsClose(out.entropy_T, e.entropy, tolerance));
        EXPECT_TRUE(IsClose(out.mean_logit_T, z.mean(1), tolerance));
        const at::Tensor leaf = OnDevice(hidden).requires_grad_();
        const auto loss = FusedLinearCrossEntropy(leaf, OnDevice(weight), OnDevice(target),
                                                  OnDevice(bias), {.temperature = temperature});
        EXPECT_TRUE(IsClose(loss.loss, e.loss.sum(), tolerance));
        const at::Tensor grad = torch::autograd::grad({loss.loss}, {leaf})[0];
        EXPECT_TRUE(IsClose(grad, e.grad.matmul(weight.to(at::kDouble)) / temperature, 0.1));
        const auto smoothed =
            FusedLinearCrossEntropy(OnDevice(hidden), OnDevice(weight), OnDevice(target),
                                    OnDevice(bias), {.label_smoothing = 0.1});
        EXPECT_EQ(smoothed.loss.item<double>(), kInf);
      }
    }
  }
}

// What tensors without kernels of ours come to on a GPU, where nobody looks at the targets first.
TEST(LogitsEdgeTest, TargetsOutOfRangeAreNeverRead) {
  const at::Tensor z = at::arange(12, at::kDouble).view({4, 3});
  const at::Tensor target = at::tensor({2, -7, 3, 0}, at::kLong);
  EXPECT_TRUE(IsClose(aten::AtTarget(z, target),
                      at::tensor({2.0, std::nan(""), std::nan(""), 9.0}, at::kDouble), 0));
  at::Tensor expected = z.clone(), dz = z.clone();
  expected[0][2] -= 2;
  expected[3][0] -= 5;
  aten::SubtractAtTarget(dz, target, at::tensor({2.0, 3.0, 4.0, 5.0}, at::kDouble));
  EXPECT_TRUE(dz.equal(expected));
}

}  // namespace
}  // namespace liger::kernels
