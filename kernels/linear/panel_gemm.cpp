#include "kernels/linear/panel_gemm.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <type_traits>

#include "kernels/linear/packing.h"
#include "kernels/linear/panels_avx512.h"

namespace liger::kernels::gemm {
namespace {

using panels::Depth;

// Of the inner dimension at once: a left panel is then 18 KB of an L1 cache of 32.
constexpr int64_t kMostDepth = 288;
// Panels that are multiplied by each other as a block: of left ones 0.2 MB, of right ones 0.44 MB,
// of an L2 cache of 1 MB.
constexpr int64_t kLeftGroup = 12, kRightGroup = 12;
// What all threads pack together, in slices of the inner dimension, is about this much at most.
constexpr int64_t kSharedBytes = int64_t{8} << 20;

struct LeftSide {
  static constexpr int64_t kRows = panels::kLeftRows, kLine = panels::kLeftLine;
  static constexpr int64_t kGroup = kLeftGroup;
  static constexpr auto Pack = panels::PackLeft;
};
struct RightSide {
  static constexpr int64_t kRows = panels::kRightRows, kLine = panels::kRightLine;
  static constexpr int64_t kGroup = kRightGroup;
  static constexpr auto Pack = panels::PackRight;
};

class Product {
 public:
  Product(const at::Tensor& a, const at::Tensor& b, const at::Tensor& c, bool accumulate)
      : c_{c.mutable_data_ptr<float>(), c.size(0), c.size(1), c.stride(0)},
        accumulate_(accumulate) {
    left_ = AsOperand(a, left_holder_);
    right_ = AsOperand(b.t(), right_holder_);
    slice_ = PartSize(left_.depth, kMostDepth);
  }

  void Run() {
    right_.rows >= left_.rows ? Run<LeftSide, RightSide>(left_, right_)
                              : Run<RightSide, LeftSide>(right_, left_);
  }

 private:
  // A thread takes panels of `own`, and multiplies them with all of `shared`.
  template <typename Shared, typename Own>
  void Run(const Operand& shared, const Operand& own) {
    const int64_t bytes = shared.rows * slice_ * int64_t{sizeof(float)};
    const int64_t at_once = slice_ * std::max<int64_t>(1, kSharedBytes / bytes);
    for (int64_t begin = 0; begin < shared.depth; begin += at_once) {
      RunSlices<Shared, Own>(shared, own, {begin, std::min(at_once, shared.depth - begin)});
    }
  }

  // Slice s of panel p is at (s * panels * slice_ + p * its depth) * kLine.
  template <typename Shared, typename Own>
  void RunSlices(const Operand& shared, const Operand& own, const Depth& depth) {
    static thread_local Scratch<float> scratch;
    const int64_t panels = Ceil(shared.rows, Shared::kRows);
    float* packed = scratch.Reserve(panels * Shared::kLine * depth.count);
    at::parallel_for(0, panels, 1, [&](int64_t begin, int64_t end) {
      ForSlices(depth, [&](const Depth& slice) {
        Shared::Pack(shared, {begin, end}, slice,
                     packed + ((slice.begin - depth.begin) * panels + begin * slice.count) *
                                  Shared::kLine);
      });
    });
    at::parallel_for(0, Ceil(own.rows, Own::kRows), 1, [&](int64_t begin, int64_t end) {
      static thread_local Scratch<float> own_scratch;
      float* mine = own_scratch.Reserve(Own::kGroup * Own::kLine * slice_);
      const int64_t group = PartSize(end - begin, Own::kGroup);
      for (int64_t p = begin; p < end; p += group) {
        const Panels range = {p, std::min(p + group, end)};
        ForSlices(depth, [&](const Depth& slice) {
          Own::Pack(own, range, slice, mine);
          const float* all = packed + (slice.begin - depth.begin) * panels * Shared::kLine;
          if constexpr (std::is_same_v<Own, RightSide>) {
            Multiply(all, {0, panels}, mine, range, slice);
          } else {
            const int64_t chunk = PartSize(panels, Shared::kGroup);
            for (int64_t q = 0; q < panels; q += chunk) {
              Multiply(mine, range, all + q * slice.count * Shared::kLine,
                       {q, std::min(q + chunk, panels)}, slice);
            }
          }
        });
      }
    });
  }

  template <typename F>
  void ForSlices(const Depth& depth, F&& f) const {
    for (int64_t begin = 0; begin < depth.count; begin += slice_) {
      f(Depth{depth.begin + begin, std::min(slice_, depth.count - begin)});
    }
  }

  // All pairs of these panels, which are packed at `left` and `right`.
  void Multiply(const float* left, const Panels& left_panels, const float* right,
                const Panels& right_panels, const Depth& depth) const {
    const bool add = accumulate_ || depth.begin > 0;
    const int64_t left_size = depth.count * panels::kLeftLine;
    const int64_t right_size = depth.count * panels::kRightLine;
    // The next left panel, in as many parts as there are products until then.
    const int64_t step = Ceil(panels::kLeftLine * int64_t{sizeof(float)},
                              right_panels.end - right_panels.begin);
    for (int64_t p = left_panels.begin; p < left_panels.end; ++p, left += left_size) {
      const char* next = reinterpret_cast<const char*>(left + left_size);
      for (int64_t q = right_panels.begin; q < right_panels.end; ++q) {
        const int64_t i = q - right_panels.begin;
        panels::MultiplyPanels(left, right + i * right_size, depth.count, BlockOf(p, q), add,
                               {next + i * depth.count * step, step});
      }
    }
  }

  Block BlockOf(int64_t left_panel, int64_t right_panel) const {
    const int64_t row = left_panel * panels::kLeftRows, column = right_panel * panels::kRightRows;
    return {c_.data + row * c_.stride + column, std::min(panels::kLeftRows, c_.rows - row),
            std::min(panels::kRightRows, c_.cols - column), c_.stride};
  }

  const Block c_;
  const bool accumulate_;
  at::Tensor left_holder_, right_holder_;  // what the operands point into
  Operand left_, right_;
  int64_t slice_;
};

}  // namespace

bool HasPanelGemm() { return panels::HasAvx512(); }

bool WorthPacking(int64_t M, int64_t N, int64_t K) {
  constexpr int64_t kLeastRows = 32, kLeastProducts = int64_t{1} << 21;
  return std::min(M, N) >= kLeastRows && K >= kLeastRows && M * N * K >= kLeastProducts;
}

void PanelProduct(const at::Tensor& a, const at::Tensor& b, const at::Tensor& c, bool accumulate) {
  Product(a, b, c, accumulate).Run();
}

}  // namespace liger::kernels::gemm
