#include "kernels/linear/split_gemm.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <bit>
#include <vector>

#include "kernels/linear/packing.h"
#include "kernels/linear/split_tiles.h"

namespace liger::kernels::gemm {
namespace {

using split::kPanelRows;
using split::kStepDepth;
using split::kStepSize;
using split::Steps;

// Steps of 32 summed in the tiles before they are added to c.
constexpr int64_t kBlockSteps = 18;
// Steps packed at once: a block, and of the operand that all threads read at most about this much.
constexpr int64_t kSharedBytes = int64_t{8} << 20;
constexpr int64_t kLeastSteps = 6;
// Panels of the other operand that a thread packs for itself, 1.3 MB in all: of an L2 cache of 2.
constexpr int64_t kGroup = 12;
// Numbers in a cache line, and lines of a packed step.
constexpr int64_t kLine = 64 / sizeof(uint16_t), kStepLines = kStepSize / kLine;

// Whether sums of `depth` scaled products of parts stay finite.
bool Fits(uint32_t a_bits, uint32_t b_bits, int64_t depth) {
  const double a = std::bit_cast<float>(a_bits), b = std::bit_cast<float>(b_bits);
  return a <= 0x1p102 && b <= 0x1p102 && a * b * static_cast<double>(depth) <= 0x1p78;
}

class Product {
 public:
  Product(const at::Tensor& a, const at::Tensor& b, const at::Tensor& c, bool accumulate)
      : a_(a), b_(b), c_(c), accumulate_(accumulate) {
    const Operand left = AsOperand(a, left_), right = AsOperand(b.t(), right_);
    // The operand with more rows is divided among the threads; all read the other one.
    shared_is_left_ = right.rows >= left.rows;
    shared_ = shared_is_left_ ? left : right;
    own_ = shared_is_left_ ? right : left;
    shared_panels_ = Ceil(shared_.rows, kPanelRows);
    own_panels_ = Ceil(own_.rows, kPanelRows);
    failed_.resize(static_cast<size_t>(own_panels_));
  }

  bool Run() {
    const int64_t bytes = shared_panels_ * kStepSize * int64_t{sizeof(uint16_t)};
    const int64_t most = std::clamp(kSharedBytes / bytes, kLeastSteps, kBlockSteps);
    const int64_t steps = Ceil(shared_.depth, kStepDepth), slice = PartSize(steps, most);
    bool split = true;
    for (int64_t begin = 0; begin < steps; begin += slice) {
      split = RunSlice({begin, std::min(slice, steps - begin)}) && split;
    }
    return split;
  }

 private:
  bool RunSlice(const Steps& slice) {
    static thread_local Scratch<uint16_t> scratch;
    static thread_local std::vector<uint32_t> largest;
    uint16_t* packed = scratch.Reserve(shared_panels_ * slice.count * kStepSize);
    largest.resize(static_cast<size_t>(shared_panels_));
    uint32_t* bits = largest.data();
    at::parallel_for(0, shared_panels_, 1, [&](int64_t begin, int64_t end) {
      split::PackPanels(shared_, shared_side(), {begin, end}, slice,
                        packed + begin * slice.count * kStepSize, bits + begin);
    });
    const uint32_t shared_largest = *std::max_element(largest.begin(), largest.end());
    at::parallel_for(0, own_panels_, 1, [&](int64_t begin, int64_t end) {
      const split::TileScope tiles;
      const int64_t group = PartSize(end - begin, kGroup);
      for (int64_t p = begin; p < end; p += group) {
        RunGroup(packed, shared_largest, {p, std::min(p + group, end)}, slice);
      }
    });
    return RepeatFailed(slice);
  }

  // Packs panels of its own, and multiplies them with all shared ones.
  void RunGroup(const uint16_t* shared, uint32_t shared_largest, const Panels& group,
                const Steps& slice) {
    static thread_local Scratch<uint16_t> scratch;
    uint16_t* own = scratch.Reserve(kGroup * slice.count * kStepSize);
    const int64_t group_size = group.end - group.begin;
    uint32_t largest[kGroup];
    split::PackPanels(own_, own_side(), group, slice, own, largest);
    for (int64_t p = group.begin; p < group.end; ++p) {
      failed_[p] = !Fits(shared_largest, largest[p - group.begin], shared_.depth);
    }
    const bool add = accumulate_ || slice.begin > 0;
    for (int64_t i = 0; i < shared_panels_; ++i) {
      const uint16_t* s = shared + i * slice.count * kStepSize;
      for (int64_t p = group.begin; p < group.end; ++p) {
        if (failed_[p]) continue;
        const uint16_t* o = own + (p - group.begin) * slice.count * kStepSize;
        // The next shared panel, in as many parts as there are products until then.
        const int64_t lines = i + 1 < shared_panels_ ? Ceil(kStepLines, group_size) : 0;
        const split::Ahead ahead = {
            s + (slice.count + (p - group.begin) * slice.count * lines / kStepLines) * kStepSize,
            lines};
        shared_is_left_ ? split::MultiplyPanels(s, o, slice.count, BlockOf(i, p), add, ahead)
                        : split::MultiplyPanels(o, s, slice.count, BlockOf(p, i), add, ahead);
      }
    }
  }

  Block BlockOf(int64_t row_panel, int64_t column_panel) const {
    const int64_t row = row_panel * kPanelRows, column = column_panel * kPanelRows;
    return {c_.mutable_data_ptr<float>() + row * c_.stride(0) + column,
            std::min(kPanelRows, c_.size(0) - row), std::min(kPanelRows, c_.size(1) - column),
            c_.stride(0)};
  }

  // Panels that failed, neighbours together.
  bool RepeatFailed(const Steps& slice) {
    bool none = true;
    for (int64_t begin = 0; begin < own_panels_; ++begin) {
      if (!failed_[begin]) continue;
      int64_t end = begin + 1;
      while (end < own_panels_ && failed_[end]) ++end;
      Repeat({begin, end}, slice);
      none = false;
      begin = end;
    }
    return none;
  }

  void Repeat(const Panels& panels, const Steps& slice) {
    const int64_t k = slice.begin * kStepDepth;
    const int64_t depth = std::min(slice.count * kStepDepth, shared_.depth - k);
    const int64_t row = panels.begin * kPanelRows;
    const int64_t rows = std::min(panels.end * kPanelRows, own_.rows) - row;
    const at::Tensor a = a_.narrow(1, k, depth), b = b_.narrow(0, k, depth);
    const bool add = accumulate_ || k > 0;
    const auto multiply = [&](const at::Tensor& x, const at::Tensor& y, at::Tensor c) {
      add ? at::addmm_out(c, c, x, y) : at::mm_out(c, x, y);
    };
    shared_is_left_ ? multiply(a, b.narrow(1, row, rows), c_.narrow(1, row, rows))
                    : multiply(a.narrow(0, row, rows), b, c_.narrow(0, row, rows));
  }

  Side shared_side() const { return shared_is_left_ ? Side::kLeft : Side::kRight; }
  Side own_side() const { return shared_is_left_ ? Side::kRight : Side::kLeft; }

  const at::Tensor &a_, &b_, &c_;
  const bool accumulate_;
  at::Tensor left_, right_;  // what the operands point into
  Operand shared_, own_;
  bool shared_is_left_;
  int64_t shared_panels_, own_panels_;
  std::vector<uint8_t> failed_;  // of a slice, by panel of own_
};

}  // namespace

bool HasSplit() { return split::HasTiles(); }

bool WorthSplitting(int64_t M, int64_t N, int64_t K) {
  // Measured: 64 x 576 x 576 gains a fifth, 32 x 576 x 576 nothing, 576 x 32 x 128 loses a third.
  constexpr int64_t kLeastRows = 64, kLeastDepth = 32, kLeastProducts = int64_t{1} << 21;
  return std::min(M, N) >= kLeastRows && K >= kLeastDepth && M * N * K >= kLeastProducts;
}

bool SplitProduct(const at::Tensor& a, const at::Tensor& b, const at::Tensor& c, bool accumulate) {
  return Product(a, b, c, accumulate).Run();
}

}  // namespace liger::kernels::gemm
