#include "kernels/linear/panel_gemm.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "kernels/linear/linear.h"
#include "tests/unit/kernels/gemm_errors.h"

namespace liger::kernels {
namespace {

class PanelGemmTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!gemm::HasPanelGemm()) {
      GTEST_SKIP() << "NOT RUN: this CPU has no AVX-512; panel_gemm is untested";
    }
    at::manual_seed(12);
  }

  static at::Tensor Product(const at::Tensor& a, const at::Tensor& b) {
    at::Tensor c = at::full({a.size(0), b.size(1)}, std::nan(""));
    gemm::PanelProduct(a, b, c, /*accumulate=*/false);
    return c;
  }
};

// Chains of at most 288 FMAs are added up; other libraries' are shorter or longer, and the error of
// a sum of random numbers grows with the root of a chain's length: of 192, as MKL's may be, by
// 1.22.
constexpr double kChains = 1.25;

TEST_F(PanelGemmTest, AsExactAsMm) {
  for (const Shape& s : {Shape{704, 1536, 576}, Shape{96, 130, 32}, Shape{170, 576, 5000}}) {
    const at::Tensor a = at::randn({s.M, s.K}), b = at::randn({s.K, s.N});
    const Errors ours = ErrorsOf(Product(a, b), a, b), mm = ErrorsOf(at::mm(a, b), a, b);
    EXPECT_LE(ours.l2, kChains * mm.l2) << s.K;
    EXPECT_LE(ours.max, 2 * mm.max) << s.K;

  }
}

// Every number of rows of a panel, one and two vectors of columns, one slice and several.
TEST_F(PanelGemmTest, EveryRaggedShapeOfEveryLayout) {
  for (int64_t M = 1; M <= 29; ++M) {
    for (const int64_t N : {1, 15, 16, 17, 32, 33, 70}) {
      const int64_t K = (M * 97 + N * 13) % 700 + 1;
      for (const bool a_transposed : {false, true}) {
        for (const bool b_transposed : {false, true}) {
          const at::Tensor a = a_transposed ? at::randn({K, M}).t() : at::randn({M, K});
          const at::Tensor b = b_transposed ? at::randn({N, K}).t() : at::randn({K, N});
          EXPECT_LE(ErrorsOf(Product(a, b), a, b).max, 1e-6)
              << M << " " << N << " " << K << " " << a_transposed << b_transposed;
        }
      }
    }
  }
  // More panels than a group has, of either side, and more than is packed at once (8 MiB).
  for (const Shape& s : {Shape{700, 900, 300}, Shape{40, 50, 60000}, Shape{3000, 64, 1500}}) {
    const at::Tensor a = at::randn({s.M, s.K}), b = at::randn({s.K, s.N});
    EXPECT_LE(ErrorsOf(Product(a, b), a, b).max, 1e-6) << s.M << " " << s.N << " " << s.K;
  }
}

TEST_F(PanelGemmTest, IntegersAreExact) {
  const at::Tensor a = at::randint(-200, 200, {70, 340}).to(at::kFloat);
  const at::Tensor b = at::randint(-100, 100, {340, 50}).to(at::kFloat);
  EXPECT_TRUE(Product(a, b).equal(at::mm(a.to(at::kDouble), b.to(at::kDouble)).to(at::kFloat)));
}

TEST_F(PanelGemmTest, AnyStridesAndOnlyItsOwnNumbers) {
  const at::Tensor wide = at::randn({90, 300}), b = at::randn({140, 77});
  for (const at::Tensor& a : {wide.slice(1, 10, 290, 2), wide.narrow(1, 3, 140),
                              wide.narrow(0, 5, 1).narrow(1, 0, 140).expand({60, 140}),
                              at::randn({1, 90}).t().expand({90, 140})}) {
    EXPECT_LE(ErrorsOf(Product(a, b), a, b).max, 1e-6) << a.strides();
  }
  at::Tensor buffer = at::full({94, 100}, 7.0);
  const at::Tensor a = wide.narrow(1, 0, 140);
  const at::Tensor c = buffer.narrow(0, 2, 90).narrow(1, 11, 77);
  gemm::PanelProduct(a, b, c, false);
  EXPECT_LE(ErrorsOf(c, a, b).max, 1e-6);
  c.fill_(7);
  EXPECT_TRUE(buffer.equal(at::full({94, 100}, 7.0)));
}

TEST_F(PanelGemmTest, AccumulatesAsExactlyAsAddmm) {
  for (const Shape& s : {Shape{576, 200, 700}, Shape{60, 90, 2400}}) {
    const at::Tensor g = at::randn({s.K, s.M}), x = at::randn({s.K, s.N});
    const at::Tensor before = at::randn({s.M, s.N}) * 10;
    at::Tensor ours = before.clone(), mm = before.clone();
    gemm::PanelProduct(g.t(), x, ours, /*accumulate=*/true);
    at::addmm_out(mm, mm, g.t(), x);
    const Errors panels = ErrorsOf(ours, g.t(), x, before), addmm = ErrorsOf(mm, g.t(), x, before);
    EXPECT_LE(panels.l2, kChains * addmm.l2);
  }
}

TEST_F(PanelGemmTest, SameBitsForAnyNumberOfThreadsAndEachTime) {
  ExpectSameBitsForAnyNumberOfThreads(
      [](const at::Tensor& a, const at::Tensor& b, const at::Tensor& c) {
        gemm::PanelProduct(a, b, c, /*accumulate=*/true);
      });
}

TEST_F(PanelGemmTest, WhatIsNotFiniteStaysInItsRowOrColumn) {
  for (const float value : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    for (const auto& [i, k] : {std::pair<int64_t, int64_t>{0, 0}, {40, 500}, {89, 299}}) {
      at::Tensor a = at::randn({90, 600}), b = at::randn({600, 130});
      a[i][k] = value;
      const at::Tensor c = Product(a, b), mm = at::mm(a, b);
      EXPECT_TRUE(c.isnan().equal(mm.isnan()) && c.isinf().equal(mm.isinf())) << value << i;
      const at::Tensor d = Product(b.t(), a.t());
      EXPECT_TRUE(d.isnan().equal(mm.t().isnan()) && d.isinf().equal(mm.t().isinf())) << value << i;
    }
  }
}

TEST_F(PanelGemmTest, LayersTakeItForLargeProducts) {
  if (CpuGemm(GemmKind::kForward) != GemmLibrary::kAvx512) {
    GTEST_SKIP() << "NOT RUN: this CPU is not one where it is chosen, or LIGER_CPU_GEMM is set";
  }
  const at::Tensor x = at::randn({200, 320}).requires_grad_(true);
  const at::Tensor w = at::randn({400, 320}).requires_grad_(true), g = at::randn({200, 400});
  const at::Tensor y = Linear(x, w);
  y.backward(g);
  EXPECT_TRUE(y.detach().equal(Product(x.detach(), w.detach().t())));
  EXPECT_TRUE(x.grad().equal(Product(g, w.detach())));
  EXPECT_TRUE(w.grad().equal(Product(g.t(), x.detach())));
}

}  // namespace
}  // namespace liger::kernels
