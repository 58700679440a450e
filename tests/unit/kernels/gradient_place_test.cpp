// Gradients of weights that are made in memory of the caller's: the values of those that are not.
#include "kernels/gradient_place.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <limits>

#include "kernels/gated_linear/gated_linear.h"
#include "kernels/linear/linear.h"
#include "test_device.h"

namespace liger::kernels {
namespace {

at::Tensor Leaf(int64_t rows, int64_t columns, at::ScalarType dtype = at::kFloat) {
  return (at::randn({rows, columns}) * 0.1).to(kDevice, dtype).requires_grad_();
}

at::Tensor Place(const at::Tensor& weight) {  // a part of more, as a shard's is, that holds NaN
  return at::full({3, weight.numel()}, std::numeric_limits<double>::quiet_NaN(),
                  weight.options().requires_grad(false))[1]
      .view(weight.sizes());
}

using Forward = std::function<at::Tensor(const at::Tensor& weight)>;

at::Tensor Gradient(const Forward& forward, const at::Tensor& weight) {
  return torch::autograd::grad({forward(weight).square().sum()}, {weight})[0];
}

// With and without a place, where the weight is used once.
void ExpectMadeThere(const Forward& forward, const at::Tensor& weight) {
  const at::Tensor expected = Gradient(forward, weight), place = Place(weight);
  {
    const GradientPlace there(weight, [&] { return place; });
    const at::Tensor grad = Gradient(forward, weight);
    EXPECT_EQ(grad.data_ptr(), place.data_ptr());
    EXPECT_TRUE(at::equal(grad, expected));
  }
  const at::Tensor after = Gradient(forward, weight);
  EXPECT_NE(after.data_ptr(), place.data_ptr());
  EXPECT_TRUE(at::equal(after, expected));
}

TEST(GradientPlaceTest, TakesTheGradientOfALinearLayer) {
  at::manual_seed(7);
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const at::Tensor x = Leaf(40, 96, dtype);
    ExpectMadeThere([&](const at::Tensor& weight) { return Linear(x, weight); },
                    Leaf(64, 96, dtype));
    const at::Tensor rows_of_rows = x.detach().view({4, 10, 96});
    ExpectMadeThere([&](const at::Tensor& weight) { return Linear(rows_of_rows, weight); },
                    Leaf(64, 96, dtype));
  }
}

TEST(GradientPlaceTest, TakesTheGradientOfAGatedLayer) {
  at::manual_seed(8);
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const at::Tensor gate = Leaf(40, 64, dtype), up = Leaf(40, 64, dtype);
    ExpectMadeThere(
        [&](const at::Tensor& weight) {
          return GatedLinear(Activation::kSilu, gate, up, weight, std::nullopt);
        },
        Leaf(96, 64, dtype));
  }
}

TEST(GradientPlaceTest, OfAWeightThatIsUsedTwiceIsTheSum) {
  at::manual_seed(9);
  const at::Tensor x = Leaf(40, 64), weight = Leaf(64, 64), place = Place(weight);
  const auto twice = [&](const at::Tensor& w) { return Linear(Linear(x, w), w); };
  const at::Tensor expected = Gradient(twice, weight);
  int asked = 0;
  const GradientPlace there(weight, [&] { return asked++ == 0 ? place : at::Tensor(); });
  EXPECT_TRUE(at::equal(Gradient(twice, weight), expected));
  EXPECT_EQ(asked, 2);
}

TEST(GradientPlaceTest, IsOneOfAWeight) {
  const at::Tensor weight = Leaf(4, 4);
  const GradientPlace there(weight, [] { return at::Tensor(); });
  EXPECT_THROW(GradientPlace(weight, [] { return at::Tensor(); }), c10::Error);
}

}  // namespace
}  // namespace liger::kernels
