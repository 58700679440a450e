// The vectorised pieces against long double and against c10's bfloat16.
#include "kernels/common/vector.h"

#include <c10/util/BFloat16.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "kernels/common/logits_rows.h"

namespace liger::kernels {
namespace {

TEST(VectorTest, ExpIsWithinTwoUlp) {
  double worst = 0;
  for (float x = -87.0f; x <= 88.2f; x += 1.0f / 1024) {
    const double exact = std::exp(static_cast<double>(x));
    const float rounded = static_cast<float>(exact);
    const double ulp = std::nextafter(rounded, std::numeric_limits<float>::infinity()) - rounded;
    worst = std::max(worst, std::abs(Exp(x) - exact) / ulp);
  }
  EXPECT_LT(worst, 2.0);
  EXPECT_EQ(Exp(0.0f), 1.0f);
}

TEST(VectorTest, ExpAtTheEdges) {
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(Exp(-inf), 0.0f);
  EXPECT_EQ(Exp(-200.0f), 0.0f);
  EXPECT_TRUE(std::isfinite(Exp(inf)));
  EXPECT_TRUE(std::isnan(Exp(std::nanf(""))));
  EXPECT_FLOAT_EQ(Sigmoid(100.0f), 1.0f);
  EXPECT_NEAR(Sigmoid(-100.0f), 0.0f, 1e-30f);
}

TEST(VectorTest, NormalCdfIsWithinItsBound) {
  double worst_cdf = 0, worst_bell = 0;
  for (float x = -12.0f; x <= 12.0f; x += 1.0f / 1023) {
    const double wide = x, cdf = 0.5 * std::erfc(-wide * std::sqrt(0.5));
    const double bell = std::exp(-0.5 * wide * wide);
    const CdfAndBell normal = NormalCdf(x);
    worst_cdf = std::max(worst_cdf, std::abs(normal.cdf / cdf - 1));
    worst_bell = std::max(worst_bell, std::abs(normal.bell / bell - 1));
  }
  EXPECT_LT(worst_cdf, 5e-7);
  EXPECT_LT(worst_bell, 2e-7);
  EXPECT_EQ(NormalCdf(0.0f).cdf, 0.5f);
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(NormalCdf(inf).cdf, 1.0f);
  EXPECT_EQ(NormalCdf(-inf).cdf, 0.0f);
  EXPECT_EQ(NormalCdf(-inf).bell, 0.0f);
  EXPECT_TRUE(std::isnan(NormalCdf(std::nanf("")).cdf));
  EXPECT_TRUE(std::isnan(NormalCdf(std::nanf("")).bell));
}

TEST(VectorTest, TanhIsWithinTwoUlp) {
  double worst = 0;
  for (float x = 1.0f / 4096; x <= 20.0f; x += 1.0f / 4096) {
    const double exact = std::tanh(static_cast<double>(x));
    const float rounded = static_cast<float>(exact);
    const double ulp = std::nextafter(rounded, std::numeric_limits<float>::infinity()) - rounded;
    worst = std::max(worst, std::abs(Tanh(x) - exact) / ulp);
    ASSERT_EQ(Tanh(-x), -Tanh(x));
  }
  EXPECT_LT(worst, 2.0);
  EXPECT_EQ(Tanh(0.0f), 0.0f);
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(Tanh(inf), 1.0f);
  EXPECT_EQ(Tanh(-inf), -1.0f);
  EXPECT_TRUE(std::isnan(Tanh(std::nanf(""))));
}

TEST(VectorTest, Bf16RoundsAsC10Does) {
  std::mt19937 random(1);
  for (int i = 0; i < 1000000; ++i) {
    const float x = std::bit_cast<float>(static_cast<uint32_t>(random()));
    if (std::isnan(x)) {
      EXPECT_TRUE(std::isnan(ToFloat(FromFloat<Bf16>(x))));
      continue;
    }
    ASSERT_EQ(FromFloat<Bf16>(x).bits, c10::BFloat16(x).x) << x;
    ASSERT_EQ(ToFloat(FromFloat<Bf16>(x)), static_cast<float>(c10::BFloat16(x)));
  }
}

std::vector<float> RandomLogits(int64_t V, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> z(static_cast<size_t>(V));
  for (float& x : z) x = normal(random);
  return z;
}

// PyTorch's float32 log_softmax is off by 4.6e-6 here, always the same way.
TEST(VectorTest, LogsumexpIsAccurateAtALargeVocabulary) {
  double bias = 0;
  for (unsigned seed = 0; seed < 8; ++seed) {
    const auto z = RandomLogits(49152, seed);
    long double sum = 0;
    for (const float x : z) sum += std::exp(static_cast<long double>(x));
    const double exact = static_cast<double>(std::log(sum));
    for (const LogitsRow& row :
         {ReduceLogits(z.data(), 49152), ReduceLogitsWithStats(z.data(), 49152)}) {
      EXPECT_NEAR(row.logsumexp(), exact, 2e-7) << seed;
      bias += (row.logsumexp() - exact) / 16;
    }
  }
  EXPECT_LT(std::abs(bias), 1e-7);
}

TEST(VectorTest, MaskedLogits) {
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> z = {-inf, 1.0f, 1.0f, -inf};
  const LogitsRow row = ReduceLogitsWithStats(z.data(), 4);
  EXPECT_NEAR(row.logsumexp(), 1 + std::log(2.0), 1e-6);
  EXPECT_NEAR(row.entropy, std::log(2.0), 1e-6);
  EXPECT_NEAR(row.log_sum_sq, -std::log(2.0), 1e-6);
  std::vector<float> dz(4);
  CrossEntropyGradRow(z.data(), row.logsumexp(), 1, 2.0f, 4, dz.data());
  EXPECT_EQ(dz[0], 0.0f);
  EXPECT_NEAR(dz[1], -1.0f, 1e-6);
  EXPECT_NEAR(dz[2], 1.0f, 1e-6);
}

}  // namespace
}  // namespace liger::kernels
