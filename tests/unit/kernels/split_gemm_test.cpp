#include "kernels/linear/split_gemm.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "kernels/linear/linear.h"
#include "kernels/path.h"
#include "tests/unit/kernels/gemm_errors.h"

namespace liger::kernels {
namespace {

class SplitGemmTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!gemm::HasSplit()) {
      GTEST_SKIP()
          << "NOT RUN: this CPU or kernel has no AMX with bfloat16; split_gemm is untested";
    }
    at::manual_seed(11);
  }

  // The split product, which must not have needed at::mm.
  static at::Tensor Product(const at::Tensor& a, const at::Tensor& b) {
    at::Tensor c = at::full({a.size(0), b.size(1)}, std::nan(""));
    EXPECT_TRUE(gemm::SplitProduct(a, b, c, /*accumulate=*/false));
    return c;
  }

  // At most an ordinary product's error, and some slack for what is not its rounding but chance.
  static void ExpectAsExactAsMm(const at::Tensor& a, const at::Tensor& b, const std::string& what) {
    const Errors split = ErrorsOf(Product(a, b), a, b), mm = ErrorsOf(at::mm(a, b), a, b);
    EXPECT_LE(split.l2, 1.02 * mm.l2) << what;
    EXPECT_LE(split.max, 1.1 * mm.max) << what;
    EXPECT_LE(split.max, 1e-6) << what;
  }
};

at::Tensor Spread(at::IntArrayRef sizes, int64_t exponents) {
  return at::exp2(at::randint(-exponents, exponents + 1, sizes).to(at::kFloat));
}

TEST_F(SplitGemmTest, RandomIsAtLeastAsExactAsMm) {
  for (const Shape& s : {Shape{704, 1536, 576}, Shape{96, 130, 32}, Shape{170, 576, 5000}}) {
    ExpectAsExactAsMm(at::randn({s.M, s.K}), at::randn({s.K, s.N}), std::to_string(s.K));
    ExpectAsExactAsMm(at::rand({s.M, s.K}), at::rand({s.K, s.N}), "positive");
  }
}

TEST_F(SplitGemmTest, BadlyScaledIsAtLeastAsExactAsMm) {
  const at::Tensor a = at::randn({128, 600}), b = at::randn({600, 200});
  ExpectAsExactAsMm(a * Spread({128, 1}, 25), b * Spread({1, 200}, 25), "rows and columns");
  ExpectAsExactAsMm(a * Spread({1, 600}, 25), b * Spread({600, 1}, 25), "the inner dimension");
  ExpectAsExactAsMm(a * Spread({128, 600}, 25), b * Spread({600, 200}, 25), "every number");
}

TEST_F(SplitGemmTest, CancellingIsAtLeastAsExactAsMm) {
  const at::Tensor half = at::randn({100, 320}), b = at::randn({320, 140});
  const at::Tensor a = at::cat({half, half * -(1 + 1e-5 * at::randn({100, 320}))}, 1);
  ExpectAsExactAsMm(a, at::cat({b, b}), "");
}

// Down to denormal factors and denormal results: numbers of which a part of the split would be
// below bfloat16's least normal one, had they not been scaled.
TEST_F(SplitGemmTest, TinyIsAtLeastAsExactAsMm) {
  const at::Tensor a = at::randn({64, 300}), b = at::randn({300, 90});
  ExpectAsExactAsMm(a * 1e-33, b, "1e-33");
  ExpectAsExactAsMm(a * 1e-38, b * 1e6, "about the least normal");
  ExpectAsExactAsMm(a * 1e-42, b * 1e10, "denormal");
  ExpectAsExactAsMm(at::where(a > 0, a, a * 1e-37), b, "beside ordinary ones");
  const at::Tensor x = a * 1e-20, y = b * 1e-21;
  const at::Tensor difference =
      Product(x, y).to(at::kDouble) - at::mm(x.to(at::kDouble), y.to(at::kDouble));
  const at::Tensor of_mm =
      at::mm(x, y).to(at::kDouble) - at::mm(x.to(at::kDouble), y.to(at::kDouble));
  EXPECT_LE(difference.abs().max().item<double>(),
            std::max(of_mm.abs().max().item<double>(), std::ldexp(1.0, -149)));
}

// Sums of integers that float32 holds: nothing may be rounded, whatever the parts.
TEST_F(SplitGemmTest, IntegersAreExact) {
  const at::Tensor a = at::randint(-2000, 2000, {70, 40}).to(at::kFloat) * 3;
  const at::Tensor b = at::randint(-1, 2, {40, 50}).to(at::kFloat);
  EXPECT_TRUE(Product(a, b).equal(at::mm(a.to(at::kDouble), b.to(at::kDouble)).to(at::kFloat)));
  // All 24 bits through, one at a time.
  const at::Tensor identity = at::eye(48);
  const at::Tensor full = at::randint(1 << 23, 1 << 24, {48, 80}).to(at::kFloat);
  EXPECT_TRUE(Product(identity, full).equal(full));
  EXPECT_TRUE(Product(full.t(), identity).equal(full.t()));
}

TEST_F(SplitGemmTest, RaggedShapesOfEveryLayout) {
  for (const Shape& s : {Shape{1, 1, 1}, Shape{3, 5, 7}, Shape{16, 16, 32}, Shape{17, 33, 31},
                         Shape{33, 15, 65}, Shape{49, 300, 1153}, Shape{300, 49, 2310}}) {
    for (const bool a_transposed : {false, true}) {
      for (const bool b_transposed : {false, true}) {
        const at::Tensor a = a_transposed ? at::randn({s.K, s.M}).t() : at::randn({s.M, s.K});
        const at::Tensor b = b_transposed ? at::randn({s.N, s.K}).t() : at::randn({s.K, s.N});
        EXPECT_LE(ErrorsOf(Product(a, b), a, b).max, 3e-7)
            << s.M << " " << s.N << " " << s.K << " " << a_transposed << b_transposed;
      }
    }
  }
}

TEST_F(SplitGemmTest, AnyStridesAndOnlyItsOwnNumbers) {
  const at::Tensor wide = at::randn({90, 300}), b = at::randn({140, 77});
  for (const at::Tensor& a : {wide.slice(1, 10, 290, 2), wide.narrow(1, 3, 140),
                              wide.narrow(0, 5, 1).narrow(1, 0, 140).expand({60, 140}),
                              at::randn({1, 90}).t().expand({90, 140})}) {
    EXPECT_LE(ErrorsOf(Product(a, b), a, b).max, 3e-7) << a.strides();
  }
  at::Tensor buffer = at::full({94, 100}, 7.0);
  const at::Tensor a = wide.narrow(1, 0, 140);
  const at::Tensor c = buffer.narrow(0, 2, 90).narrow(1, 11, 77);
  EXPECT_TRUE(gemm::SplitProduct(a, b, c, false));
  EXPECT_LE(ErrorsOf(c, a, b).max, 3e-7);
  c.fill_(7);
  EXPECT_TRUE(buffer.equal(at::full({94, 100}, 7.0)));
}

TEST_F(SplitGemmTest, AccumulatesAsExactlyAsAddmm) {
  for (const Shape& s : {Shape{576, 200, 700}, Shape{60, 90, 2400}}) {
    const at::Tensor g = at::randn({s.K, s.M}), x = at::randn({s.K, s.N});
    const at::Tensor before = at::randn({s.M, s.N}) * 10;
    at::Tensor ours = before.clone(), mm = before.clone();
    EXPECT_TRUE(gemm::SplitProduct(g.t(), x, ours, /*accumulate=*/true));
    at::addmm_out(mm, mm, g.t(), x);
    const Errors split = ErrorsOf(ours, g.t(), x, before), addmm = ErrorsOf(mm, g.t(), x, before);
    EXPECT_LE(split.l2, addmm.l2);
    EXPECT_LE(split.max, 1.1 * addmm.max);
  }
}

TEST_F(SplitGemmTest, SameBitsForAnyNumberOfThreadsAndEachTime) {
  ExpectSameBitsForAnyNumberOfThreads(
      [](const at::Tensor& a, const at::Tensor& b, const at::Tensor& c) {
        gemm::SplitProduct(a, b, c, /*accumulate=*/true);
      });
}

// ---- What the tiles cannot take ------------------------------------------------

bool SameWhereNotFinite(const at::Tensor& x, const at::Tensor& y) {
  return x.isnan().equal(y.isnan()) && x.isinf().equal(y.isinf()) &&
         x.masked_select(x.isinf()).equal(y.masked_select(y.isinf()));
}

void ExpectFallsBack(const at::Tensor& a, const at::Tensor& b, const std::string& what) {
  for (const bool accumulate : {false, true}) {
    const at::Tensor before = at::randn({a.size(0), b.size(1)});
    at::Tensor ours = before.clone(), mm = before.clone();
    EXPECT_FALSE(gemm::SplitProduct(a, b, ours, accumulate)) << what;
    accumulate ? at::addmm_out(mm, mm, a, b) : at::mm_out(mm, a, b);
    EXPECT_TRUE(SameWhereNotFinite(ours, mm)) << what << accumulate;
    const at::Tensor finite = mm.isfinite();
    EXPECT_TRUE(at::allclose(ours.masked_select(finite), mm.masked_select(finite), 1e-4, 1e-4))
        << what << accumulate;
  }
}

TEST_F(SplitGemmTest, NotFiniteOrHugeIsWhatMmMakesOfIt) {
  const float inf = std::numeric_limits<float>::infinity();
  for (const float value : {std::nanf(""), inf, -inf, std::numeric_limits<float>::max(), 3e37f}) {
    // The place: in the first panel, in the last slice of a long inner dimension, at an end.
    for (const auto& [i, k] : {std::pair<int64_t, int64_t>{0, 0}, {40, 2400}, {89, 1300}}) {
      at::Tensor a = at::randn({90, 2500}), b = at::randn({2500, 130});
      a[i][k] = value;
      const std::string what = std::to_string(value) + " at " + std::to_string(k) + " of ";
      ExpectFallsBack(a, b, what + "the left");
      ExpectFallsBack(b.t(), a.t(), what + "the right");
      // The operand with fewer rows is packed by another path.
      ExpectFallsBack(a, b.narrow(1, 0, 33), what + "the taller left");
    }
  }
}

TEST_F(SplitGemmTest, LargeButSafeStays) {
  const at::Tensor a = at::randn({64, 300}), b = at::randn({300, 90});
  ExpectAsExactAsMm(a * 1e9, b * 1e9, "1e18");
  ExpectAsExactAsMm(a * 1e25, b * 1e-20, "1e25");
  ExpectFallsBack(a * 1e12, b * 1e12, "1e24");
}

// ---- Where it is used ------------------------------------------------------------

TEST_F(SplitGemmTest, LinearTakesItForLargeProductsAndSaysSo) {
  if (CpuGemm(GemmKind::kForward) != GemmLibrary::kAmxSplit) {
    GTEST_SKIP() << "NOT RUN: LIGER_CPU_GEMM chooses another library";
  }
  const at::Tensor x = at::randn({2, 100, 320}).requires_grad_(true);
  const at::Tensor w = at::randn({400, 320}).requires_grad_(true), bias = at::randn({400});
  const at::Tensor g = at::randn({2, 100, 400});
  ClearPathsRan();
  const at::Tensor y = Linear(x, w, bias);
  EXPECT_EQ(PathsRan(), (std::vector<PathRan>{{"linear", Path::kAmxSplit}}));
  EXPECT_EQ(PathName(Path::kAmxSplit), "amx_split");
  y.backward(g);
  const at::Tensor x2 = x.detach().view({200, 320}), w2 = w.detach(), g2 = g.view({200, 400});
  EXPECT_TRUE(y.detach().view({200, 400}).equal(Product(x2, w2.t()) + bias));
  EXPECT_TRUE(x.grad().view({200, 320}).equal(Product(g2, w2)));
  EXPECT_TRUE(w.grad().equal(Product(g2.t(), x2)));
  at::Tensor sum = w.grad().clone();
  gemm::AddGtX(g2, x2, sum);
  EXPECT_TRUE(at::allclose(sum, w.grad() * 2, 1e-5, 1e-4));

  ClearPathsRan();
  Linear(x.detach().narrow(1, 0, 1), w.detach());
  EXPECT_EQ(PathsRan(), (std::vector<PathRan>{{"linear", Path::kCpu}}));
}

TEST_F(SplitGemmTest, SmallProductsDoublesAndEmptyOnesAreNotForIt) {
  const at::Tensor large = at::randn({256, 256});
  EXPECT_FALSE(gemm::TakesSplit(large.narrow(0, 0, 1), large, GemmKind::kForward));
  EXPECT_FALSE(gemm::TakesSplit(large.narrow(0, 0, 0), large, GemmKind::kForward));
  EXPECT_FALSE(gemm::TakesSplit(large.to(at::kDouble), large.to(at::kDouble), GemmKind::kForward));
  EXPECT_FALSE(
      gemm::TakesSplit(large.to(at::kBFloat16), large.to(at::kBFloat16), GemmKind::kForward));
}

}  // namespace
}  // namespace liger::kernels
