// A gate and the product that follows it, against the two ops after each other.
#include "kernels/gated_linear/gated_linear.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "kernels/geglu/geglu.h"
#include "kernels/linear/linear.h"
#include "kernels/swiglu/swiglu.h"
#include "test_device.h"

namespace liger::kernels {
namespace {

struct Inputs {
  at::Tensor gate, up, weight, bias;

  std::vector<at::Tensor> all() const { return {gate, up, weight, bias}; }
};

Inputs MakeInputs(at::ScalarType dtype, int64_t T = 37, int64_t F = 51, int64_t D = 29) {
  at::manual_seed(3);
  const auto leaf = [&](at::IntArrayRef shape) {
    return at::randn(shape).to(kDevice, dtype).requires_grad_();
  };
  return {leaf({T, F}), leaf({T, F}), leaf({D, F}), leaf({D})};
}

at::Tensor Apart(Activation activation, const Inputs& in) {
  const auto approximate =
      activation == Activation::kGeluTanh ? GeluApproximate::kTanh : GeluApproximate::kNone;
  const at::Tensor inner = activation == Activation::kSilu ? Swiglu(in.gate, in.up)
                                                           : Geglu(in.gate, in.up, approximate);
  return Linear(inner, in.weight, in.bias);
}

std::vector<at::Tensor> GradientsOf(const at::Tensor& y, const Inputs& in) {
  const at::Tensor dy = at::linspace(-1, 1, y.numel()).view(y.sizes()).to(y.options());
  return torch::autograd::grad({y}, in.all(), {dy});
}

// The largest difference, of the largest number.
double Difference(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.detach().to(at::kDouble), y = b.detach().to(at::kDouble);
  return ((x - y).abs().max() / y.abs().max()).item<double>();
}

using Param = std::tuple<Activation, at::ScalarType>;
class GatedLinearTest : public testing::TestWithParam<Param> {};

TEST_P(GatedLinearTest, IsBothOps) {
  const auto [activation, dtype] = GetParam();
  const Inputs in = MakeInputs(dtype);
  const at::Tensor y = GatedLinear(activation, in.gate, in.up, in.weight, in.bias);
  const at::Tensor expected = Apart(activation, in);
  EXPECT_TRUE(y.equal(expected));
  const auto gradients = GradientsOf(y, in), theirs = GradientsOf(expected, in);
  // Of the weight alone something is computed by other instructions.
  const double tolerance = dtype == at::kFloat ? 1e-6 : dtype == at::kDouble ? 1e-14 : 1e-2;
  for (size_t i = 0; i < gradients.size(); ++i) {
    EXPECT_EQ(gradients[i].scalar_type(), dtype);
    if (i != 2) {
      EXPECT_TRUE(gradients[i].equal(theirs[i])) << i;
    } else {
      EXPECT_LT(Difference(gradients[i], theirs[i]), tolerance);
    }
  }
}

TEST_P(GatedLinearTest, ForGradientsAloneHasTheSameOnes) {
  const auto [activation, dtype] = GetParam();
  const Inputs in = MakeInputs(dtype);
  const at::Tensor y = GatedLinearForGradients(activation, in.gate, in.up, in.weight, in.bias);
  EXPECT_TRUE(y.isnan().all().item<bool>());
  const auto gradients = GradientsOf(y, in);
  const auto theirs =
      GradientsOf(GatedLinear(activation, in.gate, in.up, in.weight, in.bias), in);
  for (size_t i = 0; i < gradients.size(); ++i) EXPECT_TRUE(gradients[i].equal(theirs[i])) << i;
}

INSTANTIATE_TEST_SUITE_P(
    Dtypes, GatedLinearTest,
    testing::Combine(testing::Values(Activation::kSilu, Activation::kGelu, Activation::kGeluTanh),
                     testing::Values(at::kFloat, at::kBFloat16, at::kHalf, at::kDouble)));

// What is not asked for is not computed, and nothing of the rest changes.
TEST(GatedLinearTest, FrozenWeightsOrInputsHaveNoGradients) {
  Inputs in = MakeInputs(at::kFloat);
  const auto expected =
      GradientsOf(GatedLinear(Activation::kSilu, in.gate, in.up, in.weight, in.bias), in);
  const at::Tensor dy = at::linspace(-1, 1, 37 * 29).view({37, 29}).to(kDevice);
  const at::Tensor frozen_weight =
      GatedLinear(Activation::kSilu, in.gate, in.up, in.weight.detach());
  const auto inputs_alone = torch::autograd::grad({frozen_weight}, {in.gate, in.up}, {dy});
  EXPECT_TRUE(inputs_alone[0].equal(expected[0]));
  EXPECT_TRUE(inputs_alone[1].equal(expected[1]));
  const at::Tensor frozen_inputs =
      GatedLinear(Activation::kSilu, in.gate.detach(), in.up.detach(), in.weight, in.bias);
  const auto weights_alone = torch::autograd::grad({frozen_inputs}, {in.weight, in.bias}, {dy});
  EXPECT_LT(Difference(weights_alone[0], expected[2]), 1e-6);
  EXPECT_TRUE(weights_alone[1].equal(expected[3]));
}

// Halves of one tensor, as of a fused gate_up_proj, and inputs that others read afterwards.
TEST(GatedLinearTest, LeavesItsInputsAlone) {
  at::manual_seed(4);
  const at::Tensor both = at::randn({16, 64}, kDevice).requires_grad_();
  const at::Tensor weight = at::randn({8, 32}, kDevice).requires_grad_();
  const at::Tensor before = both.detach().clone();
  const auto parts = both.chunk(2, 1);
  const at::Tensor dy = at::ones({16, 8}, kDevice);
  const auto grad = torch::autograd::grad(
      {GatedLinear(Activation::kSilu, parts[0], parts[1], weight)}, {both, weight}, {dy});
  const auto expected = torch::autograd::grad(
      {Linear(Swiglu(parts[0], parts[1]), weight)}, {both, weight}, {dy});
  EXPECT_TRUE(grad[0].equal(expected[0]));
  EXPECT_LT(Difference(grad[1], expected[1]), 1e-6);
  EXPECT_TRUE(both.equal(before));
  EXPECT_TRUE(dy.equal(at::ones_like(dy)));
}

TEST(GatedLinearTest, NoTokensGiveZeroGradientsOfTheWeight) {
  const Inputs in = MakeInputs(at::kFloat, /*T=*/0);
  const at::Tensor y = GatedLinear(Activation::kSilu, in.gate, in.up, in.weight, in.bias);
  EXPECT_EQ(y.sizes(), at::IntArrayRef({0, 29}));
  const auto grads = torch::autograd::grad({y.sum()}, {in.weight});
  EXPECT_EQ(grads[0].count_nonzero().item<int64_t>(), 0);
}

TEST(GatedLinearTest, NamesWhatDoesNotFit) {
  const Inputs in = MakeInputs(at::kFloat);
  const auto message = [](auto&& call) -> std::string {
    try {
      call();
    } catch (const c10::Error& error) {
      return error.what_without_backtrace();
    }
    return "";
  };
  EXPECT_THAT(message([&] { GatedLinear(Activation::kSilu, in.gate, in.up, in.weight.t()); }),
              testing::AllOf(testing::HasSubstr("gated_linear"), testing::HasSubstr("weight"),
                             testing::HasSubstr("[51, 29]")));
  EXPECT_THAT(message([&] {
                GatedLinear(Activation::kSilu, in.gate, in.up.narrow(0, 0, 3), in.weight);
              }),
              testing::HasSubstr("up"));
}

}  // namespace
}  // namespace liger::kernels
