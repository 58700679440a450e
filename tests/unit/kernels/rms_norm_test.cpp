// Rounding in bfloat16 happens where transformers rounds.
#include "kernels/rms_norm/rms_norm.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace liger::kernels {
namespace {

// Share of elements with the same bits. Not all: rstd may differ in its last float32 bit.
double Same(const at::Tensor& a, const at::Tensor& b) {
  return a.eq(b).to(at::kDouble).mean().item<double>();
}

TEST(RmsNormTest, Bfloat16RoundsWhereTransformersDoes) {
  at::manual_seed(2);
  const at::Tensor x = (at::randn({64, 576}) * 3).to(at::kBFloat16);
  const at::Tensor w = at::randn({576}).to(at::kBFloat16);
  const at::Tensor llama = RmsNorm(x, w, 1e-5);
  EXPECT_GT(Same(llama, baseline::RmsNorm(x, w, 1e-5)), 0.999);
  const at::Tensor gemma = RmsNorm(x, w, 1e-5, 1.0, RmsNormCasting::kGemma);
  EXPECT_GT(Same(gemma, baseline::RmsNorm(x, w, 1e-5, 1.0, RmsNormCasting::kGemma)), 0.999);
  // And the two ways differ, so that the check above can tell them apart.
  EXPECT_LT(Same(llama, RmsNorm(x, w, 1e-5, 0.0, RmsNormCasting::kGemma)), 0.9);
}

TEST(RmsNormTest, Float32WeightKeepsTheProductInFloat32) {
  at::manual_seed(2);
  const at::Tensor x = at::randn({8, 64}).to(at::kBFloat16), w = at::randn({64});
  const at::Tensor exact = baseline::RmsNorm(x.to(at::kFloat), w, 1e-5);
  const at::Tensor y = RmsNorm(x, w, 1e-5);
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  EXPECT_GT(Same(y, exact.to(at::kBFloat16)), 0.999);
}

}  // namespace
}  // namespace liger::kernels
