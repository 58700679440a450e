#ifndef LIGER_TESTS_UNIT_KERNELS_GEMM_ERRORS_H_
#define LIGER_TESTS_UNIT_KERNELS_GEMM_ERRORS_H_

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

// What the tests of the packed products share.
namespace liger::kernels {

struct Shape {
  int64_t M, N, K;
};

// Errors against a double product, in units of (|A| |B|)[i, j], what each sum is made of.
struct Errors {
  double l2 = 0, max = 0;
};

inline Errors ErrorsOf(const at::Tensor& c, const at::Tensor& a, const at::Tensor& b,
                const at::Tensor& before = {}) {
  const at::Tensor x = a.to(at::kDouble), y = b.to(at::kDouble);
  at::Tensor expected = at::mm(x, y), size = at::mm(x.abs(), y.abs());
  if (before.defined()) {
    expected += before;
    size += before.abs();
  }
  const at::Tensor error = (c.to(at::kDouble) - expected).abs() / size.clamp_min(1e-300);
  return {error.square().mean().sqrt().item<double>(), error.max().item<double>()};
}

// product(a_MK, b_KN, c_MN) adds a b to c.
template <typename F>
void ExpectSameBitsForAnyNumberOfThreads(const F& product) {
  const int threads = at::get_num_threads();
  for (const Shape& s : {Shape{300, 1000, 700}, Shape{1000, 170, 2000}}) {
    const at::Tensor a = at::randn({s.M, s.K}), b = at::randn({s.N, s.K}).t();
    const at::Tensor start = at::randn({s.M, s.N});
    const auto run = [&](int n) {
      at::set_num_threads(n);
      at::Tensor c = start.clone();
      product(a, b, c);
      return c;
    };
    const at::Tensor one = run(1);
    for (const int n : {1, 2, 3, 5}) EXPECT_TRUE(run(n).equal(one)) << n;
  }
  at::set_num_threads(threads);
}

}  // namespace liger::kernels

#endif  // LIGER_TESTS_UNIT_KERNELS_GEMM_ERRORS_H_
