// Jensen-Shannon divergences of probabilities about the smallest that an exponential gives: a share
// that is 0 must not meet the logarithm of a mixture that is. The measure is PyTorch's kl_div
// against the mixture's logarithm in float64. tests/gpu runs it on a GPU.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <optional>
#include <utility>
#include <vector>

#include "kernels/divergence/divergence.h"
#include "kernels/fused_linear_jsd/fused_linear_jsd.h"
#include "test_device.h"

namespace liger::kernels {
namespace {

constexpr at::ScalarType kDtypes[] = {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble};
constexpr double kBetas[] = {0.1, 0.5, 0.9};

at::Tensor OnDevice(const at::Tensor& t) { return t.to(kDevice); }
at::Tensor InDouble(const at::Tensor& t) { return t.detach().to(at::kCPU, at::kDouble); }

testing::AssertionResult IsClose(const at::Tensor& value, const at::Tensor& expected,
                                 double relative, double absolute) {
  if (at::allclose(InDouble(value), expected.detach(), relative, absolute)) {
    return testing::AssertionSuccess();
  }
  return testing::AssertionFailure() << "got\n" << value << "\nexpected\n" << expected;
}

// Log-probabilities of one likely class and of many next to impossible, from where an exponential
// leaves the normal numbers to below where it ends, in float32 and in float64.
at::Tensor NearZero(double shift) {
  std::vector<at::Tensor> parts = {at::full({1}, -0.25 - shift / 8, at::kDouble)};
  for (const auto& [first, last] : {std::pair(-110.0, -84.0), std::pair(-750.0, -700.0)}) {
    parts.push_back(at::arange(first, last, 0.25, at::kDouble) + shift);
  }
  return at::cat(parts).unsqueeze(0);
}

TEST(DivergenceEdgeTest, JsdOfProbabilitiesThatUnderflow) {
  for (const auto dtype : kDtypes) {
    for (const double beta : kBetas) {
      for (const double shift : {0.0, 0.25, 8.0}) {
        SCOPED_TRACE(c10::str(dtype, " beta ", beta, " shift ", shift));
        const at::Tensor log_q = NearZero(shift).to(dtype), log_p = NearZero(0).to(dtype);
        const at::Tensor x = OnDevice(log_q).requires_grad_();
        const at::Tensor x64 = InDouble(log_q).requires_grad_();
        const at::Tensor loss = Jsd(x, OnDevice(log_p), std::nullopt, {.beta = beta});
        const at::Tensor loss64 = baseline::Jsd(x64, InDouble(log_p), std::nullopt, {.beta = beta});
        EXPECT_TRUE(IsClose(loss, loss64, 1e-5, 1e-7));
        EXPECT_TRUE(IsClose(torch::autograd::grad({loss}, {x})[0],
                            torch::autograd::grad({loss64}, {x64})[0], 1e-2, 1e-7));
      }
    }
  }
}

// One hidden value of 1: the weights are the logits. A class of weight alike to the first's keeps
// the gradient from 0. Of whole packs and not.
TEST(DivergenceEdgeTest, FusedLinearJsdOfProbabilitiesThatUnderflow) {
  for (const int64_t V : {312, 307}) {
    for (const auto dtype : kDtypes) {
      for (const double beta : kBetas) {
        SCOPED_TRACE(c10::str(V, " ", dtype, " beta ", beta));
        at::Tensor student = at::constant_pad_nd(NearZero(0.25)[0], {0, 10}, -103.5);
        student = student.narrow(0, 0, V).clone();
        student[1] = 0.5;
        const at::Tensor weight = student.unsqueeze(1).to(dtype);
        const at::Tensor teacher = (student - 0.5).unsqueeze(1).to(dtype);
        const at::Tensor one = at::ones({1, 1}).to(dtype);
        const at::Tensor w = OnDevice(weight).requires_grad_();
        const at::Tensor loss = FusedLinearJsd(OnDevice(one), w, OnDevice(one), OnDevice(teacher),
                                               std::nullopt, {.beta = beta});
        const at::Tensor w64 = InDouble(weight).requires_grad_();
        const at::Tensor loss64 =
            baseline::Jsd(at::log_softmax(w64.t(), 1), at::log_softmax(InDouble(teacher).t(), 1),
                          std::nullopt, {.beta = beta});
        EXPECT_TRUE(IsClose(loss, loss64, 1e-4, 1e-6));
        EXPECT_TRUE(IsClose(torch::autograd::grad({loss}, {w})[0],
                            torch::autograd::grad({loss64}, {w64})[0], 1e-2, 1e-6));
      }
    }
  }
}

}  // namespace
}  // namespace liger::kernels
