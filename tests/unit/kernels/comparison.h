#ifndef LIGER_TESTS_UNIT_KERNELS_COMPARISON_H_
#define LIGER_TESTS_UNIT_KERNELS_COMPARISON_H_

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>

// How exact an op is, measured by PyTorch's.
namespace liger::kernels {

// How far a result is from the reference, over all draws that were added.
class Error {
 public:
  void Add(const at::Tensor& value, const at::Tensor& ref) {
    if (ref.numel() == 0) return;
    const at::Tensor diff = value.detach().to(at::kDouble) - ref;
    const double largest = diff.abs().max().item<double>();
    // NaN stays, where std::max would drop it.
    if (!(largest <= max_)) {
      max_ = largest;
      where_ = c10::str("reference ", ref.reshape(-1)[diff.abs().argmax()].item<double>(),
                        ", off by ", diff.reshape(-1)[diff.abs().argmax()].item<double>());
    }
    sum_sq_ += diff.square().sum().item<double>();
    ref_sum_sq_ += ref.square().sum().item<double>();
  }
  double max() const { return max_; }
  const std::string& where() const { return where_; }
  double relative_l2() const {
    return std::sqrt(ref_sum_sq_ == 0 ? sum_sq_ : sum_sq_ / ref_sum_sq_);
  }

 private:
  double max_ = 0, sum_sq_ = 0, ref_sum_sq_ = 0;
  std::string where_ = "none";
};

// DESIGN's rule: max|ours - ref| <= 2 max|theirs - ref| + 1e-6 max|ref|, relative L2 at most
// twice theirs; ours may always be off by about two roundings to float32: 2e-7. One result (an
// output or a gradient) over one or more draws.
class Comparison {
 public:
  void Add(const at::Tensor& ours, const at::Tensor& theirs, const at::Tensor& ref,
           const std::optional<at::Tensor>& theirs_too = std::nullopt) {
    if (ours.sizes() != ref.sizes()) {
      wrong_shape_ = c10::str("shape ", ours.sizes(), " != ", ref.sizes());
      return;
    }
    // So many numbers need no further draw, which others of the op's results may need.
    constexpr int64_t kPlenty = int64_t{1} << 20;
    if (ref.numel() == 0 || numbers_ >= kPlenty) return;
    ours_.Add(ours, ref);
    theirs_.Add(theirs, ref);
    theirs_too_.Add(theirs_too.value_or(theirs), ref);
    max_ref_ = std::max(max_ref_, ref.abs().max().item<double>());
    numbers_ += at::count_nonzero(ref).item<int64_t>();
  }

  // Results that differ from zero: those that say something.
  int64_t numbers() const { return numbers_; }

  testing::AssertionResult IsAsGood() const {
    constexpr double kMaxFloor = 1e-6, kL2Floor = 2e-7;
    if (!wrong_shape_.empty()) return testing::AssertionFailure() << wrong_shape_;
    const double max = std::max(theirs_.max(), theirs_too_.max());
    const double l2 = std::max(theirs_.relative_l2(), theirs_too_.relative_l2());
    // Written so that NaN fails.
    if (ours_.max() <= 2 * max + kMaxFloor * max_ref_ &&
        ours_.relative_l2() <= std::max(2 * l2, kL2Floor)) {
      return testing::AssertionSuccess();
    }
    return testing::AssertionFailure()
           << "max error " << ours_.max() << " (theirs " << max << ", max |ref| " << max_ref_
           << "), relative L2 " << ours_.relative_l2() << " (theirs " << l2 << ") over " << numbers_
           << " numbers; ours at worst: " << ours_.where() << "; theirs: " << theirs_.where();
  }

 private:
  Error ours_, theirs_, theirs_too_;
  double max_ref_ = 0;
  int64_t numbers_ = 0;
  std::string wrong_shape_;
};

inline testing::AssertionResult IsAsGood(const at::Tensor& ours, const at::Tensor& theirs,
                                         const at::Tensor& ref) {
  Comparison comparison;
  comparison.Add(ours, theirs, ref);
  return comparison.IsAsGood();
}

}  // namespace liger::kernels

#endif  // LIGER_TESTS_UNIT_KERNELS_COMPARISON_H_
