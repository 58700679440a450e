// The padding's gradient, which is not the derivative and so not in the op table.
#include "kernels/embedding/embedding.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

namespace liger::kernels {
namespace {

TEST(EmbeddingTest, PaddingGetsNoGradient) {
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble}) {
    at::manual_seed(7);
    const at::Tensor weight = at::randn({6, 5}).to(dtype).requires_grad_();
    const at::Tensor ids = at::tensor({3, 1, 3, 5, 3, 1}, at::kLong).view({2, 3});
    const at::Tensor y = Embedding(ids, weight, /*padding_idx=*/3);
    EXPECT_TRUE(y.equal(at::embedding(weight, ids))) << dtype;
    const at::Tensor dy = at::randn(y.sizes()).to(dtype);
    const at::Tensor grad = torch::autograd::grad({y}, {weight}, {dy})[0];
    const at::Tensor plain = torch::autograd::grad({Embedding(ids, weight)}, {weight}, {dy})[0];
    EXPECT_EQ(grad[3].abs().sum().item<double>(), 0) << dtype;
    EXPECT_NE(plain[3].abs().sum().item<double>(), 0) << dtype;
    EXPECT_TRUE(grad[1].equal(plain[1])) << dtype;
    EXPECT_TRUE(grad[5].equal(dy[1][0])) << dtype;
  }
}

// Only the ids are saved: an optimizer's step before backward is none of the gradient's business.
TEST(EmbeddingTest, TheTableMayChangeBeforeBackward) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    at::Tensor weight = at::ones({6, 5}, dtype).requires_grad_();
    const at::Tensor y = Embedding(at::tensor({3, 1, 3}, at::kLong), weight);
    {
      const at::NoGradGuard no_grad;
      weight.mul_(2);
    }
    const at::Tensor grad = torch::autograd::grad({y.sum()}, {weight})[0];
    EXPECT_EQ(grad[3].sum().item<double>(), 10) << dtype;
    EXPECT_EQ(grad.sum().item<double>(), 15) << dtype;
  }
}

}  // namespace
}  // namespace liger::kernels
