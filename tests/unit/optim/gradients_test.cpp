#include "worker/trainer/optim/gradients.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace liger::trainer {
namespace {

std::vector<at::Tensor> SomeGradients(at::ScalarType dtype) {
  at::manual_seed(1);
  return {at::randn({300, 517}).to(dtype), at::Tensor(), at::randn({7}).to(dtype),
          at::randn({65537}).to(dtype)};
}

double ReferenceNorm(const std::vector<at::Tensor>& grads) {
  double sum = 0;
  for (const auto& grad : grads) {
    if (!grad.defined()) continue;
    const at::Tensor flat = grad.to(at::kDouble).flatten();
    const double* values = flat.const_data_ptr<double>();
    for (int64_t i = 0; i < flat.numel(); ++i) sum += values[i] * values[i];
  }
  return std::sqrt(sum);
}

TEST(GradientNormTest, IsThatOfOneLongVector) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const auto grads = SomeGradients(dtype);
    EXPECT_NEAR(GlobalGradientNorm(grads).item<double>() / ReferenceNorm(grads), 1.0, 1e-12);
  }
}

TEST(GradientNormTest, TakesNonContiguousGradients) {
  const at::Tensor grad = at::arange(12, at::kFloat).reshape({3, 4}).t();
  EXPECT_NEAR(GlobalGradientNorm({grad}).item<double>(), std::sqrt(506.0), 1e-9);
}

TEST(GradientNormTest, DoesNotDependOnThreads) {
  const auto grads = SomeGradients(at::kFloat);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const double one = GlobalGradientNorm(grads).item<double>();
  at::set_num_threads(4);
  const double four = GlobalGradientNorm(grads).item<double>();
  at::set_num_threads(threads);
  EXPECT_EQ(one, four);
}

TEST(GradientNormTest, ShowsNanAndInfinity) {
  at::Tensor grad = at::zeros({100});
  grad[37] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(GlobalGradientNorm({grad}).item<double>()));
  grad[37] = std::numeric_limits<float>::infinity();
  EXPECT_TRUE(std::isinf(GlobalGradientNorm({grad}).item<double>()));
}

TEST(GradientNormTest, DoesNotOverflowForLargeGradients) {
  EXPECT_NEAR(GlobalGradientNorm({at::full({4}, 1e30)}).item<double>() / 2e30, 1.0, 1e-6);
}

float Factor(double norm, double max_norm) {
  return ClipFactor(at::scalar_tensor(norm, at::kDouble), max_norm).item<float>();
}

TEST(ClipFactorTest, AsTorch) {
  EXPECT_EQ(Factor(5.0, 0.0), 1.0);
  EXPECT_EQ(Factor(0.5, 1.0), 1.0);
  EXPECT_EQ(Factor(4.0, 1.0), static_cast<float>(1.0 / (4.0 + 1e-6)));
}

}  // namespace
}  // namespace liger::trainer
