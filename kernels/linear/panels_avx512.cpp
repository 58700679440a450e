#include "kernels/linear/panels_avx512.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)

#include "kernels/linear/avx512.h"

namespace liger::kernels::panels {
namespace {

using avx512::Below;
using avx512::Transpose;

// How many lines ahead of the product the right panel's are called from the L2 cache.
constexpr int64_t kAhead = 8;

int64_t AtMost(int64_t most, int64_t count) { return count < most ? count : most; }

// 16 rows by 16 of k at a time, turned around. `rows` of them are there.
template <int64_t kLine>
void TransposeColumn(const float* from, int64_t stride, int64_t rows, int64_t count, float* out) {
  for (int64_t k = 0; k < count; k += 16) {
    const __mmask16 mask = Below(count - k);
    __m512i lines[16];
    for (int64_t i = 0; i < 16; ++i) {
      lines[i] = _mm512_castps_si512(
          _mm512_maskz_loadu_ps(i < rows ? mask : __mmask16{0}, from + i * stride + k));
    }
    Transpose(lines);
    const int64_t here = count - k < 16 ? count - k : 16;
    for (int64_t i = 0; i < here; ++i) _mm512_store_si512(out + (k + i) * kLine, lines[i]);
  }
}

// Lines of memory run along rows: a line of all panels before the next one, so that it is read
// in order.
template <int64_t kRows, int64_t kLine>
void PackInOrder(const Operand& x, const Panels& panels, const Depth& depth, float* out) {
  const int64_t first = panels.begin * kRows, last = AtMost(panels.end * kRows, x.rows);
  for (int64_t k = 0; k < depth.count; ++k) {
    const float* line = x.data + (depth.begin + k) * x.stride;
    float* to = out + k * kLine;
    for (int64_t row = first; row < last; row += kRows) {
      for (int64_t i = 0; i < kLine; i += 16) {
        const __mmask16 mask = Below(AtMost(kRows, last - row) - i);
        _mm512_store_ps(to + i, _mm512_maskz_loadu_ps(mask, line + row + i));
      }
      to += depth.count * kLine;
    }
  }
}

// Lines of memory run along k.
template <int64_t kRows, int64_t kLine>
void PackTransposed(const Operand& x, const Panels& panels, const Depth& depth, float* out) {
  for (int64_t p = panels.begin; p < panels.end; ++p) {
    for (int64_t i = 0; i < kRows; i += 16) {
      const int64_t row = p * kRows + i, rows = AtMost(AtMost(16, kRows), x.rows - row);
      if (rows > 0) {
        TransposeColumn<kLine>(x.data + row * x.stride + depth.begin, x.stride, rows, depth.count,
                               out + i);
      }
    }
    out += depth.count * kLine;
  }
}

template <int64_t kRows, int64_t kLine>
void Pack(const Operand& x, const Panels& panels, const Depth& depth, float* out) {
  (x.k_contiguous ? PackTransposed<kRows, kLine> : PackInOrder<kRows, kLine>)(x, panels, depth,
                                                                              out);
}

// Sums of R x 16 C numbers.
template <int R, int C, bool add>
void Multiply(const float* left, const float* right, int64_t depth, const Block& c, Ahead ahead) {
  __m512 sums[R][C];
#pragma GCC unroll 14
  for (int r = 0; r < R; ++r) {
    // c will be near once its sum is there.
    __builtin_prefetch(c.data + r * c.stride, /*rw=*/1);
    __builtin_prefetch(c.data + r * c.stride + c.cols - 1, /*rw=*/1);
#pragma GCC unroll 2
    for (int j = 0; j < C; ++j) sums[r][j] = _mm512_setzero_ps();
  }
#pragma GCC unroll 2
  for (int64_t k = 0; k < depth; ++k) {
    __builtin_prefetch(ahead.from, /*rw=*/0, /*locality=*/2);
    ahead.from += ahead.step;
    __m512 b[C];
#pragma GCC unroll 2
    for (int j = 0; j < C; ++j) {
      b[j] = _mm512_load_ps(right + 16 * j);
      __builtin_prefetch(right + kAhead * kRightLine + 16 * j);
    }
#pragma GCC unroll 14
    for (int r = 0; r < R; ++r) {
      const __m512 a = _mm512_set1_ps(left[r]);
#pragma GCC unroll 2
      for (int j = 0; j < C; ++j) sums[r][j] = _mm512_fmadd_ps(a, b[j], sums[r][j]);
    }
    left += kLeftLine;
    right += kRightLine;
  }
  const __mmask16 masks[2] = {Below(c.cols), Below(c.cols - 16)};
#pragma GCC unroll 14
  for (int r = 0; r < R; ++r) {
    float* row = c.data + r * c.stride;
#pragma GCC unroll 2
    for (int j = 0; j < C; ++j) {
      __m512 sum = sums[r][j];
      if constexpr (add) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(masks[j], row + 16 * j));
      _mm512_mask_storeu_ps(row + 16 * j, masks[j], sum);
    }
  }
}

template <int R>
void MultiplyRows(const float* left, const float* right, int64_t depth, const Block& c, bool add,
                  Ahead ahead) {
  if (c.rows < R) {
    if constexpr (R > 1) MultiplyRows<R - 1>(left, right, depth, c, add, ahead);
    return;
  }
  if (c.cols > 16) {
    (add ? Multiply<R, 2, true> : Multiply<R, 2, false>)(left, right, depth, c, ahead);
  } else {
    (add ? Multiply<R, 1, true> : Multiply<R, 1, false>)(left, right, depth, c, ahead);
  }
}

}  // namespace

bool HasAvx512() {
  static const bool has = [] {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
  }();
  return has;
}

void PackLeft(const Operand& x, const Panels& panels, const Depth& depth, float* out) {
  Pack<kLeftRows, kLeftLine>(x, panels, depth, out);
}

void PackRight(const Operand& x, const Panels& panels, const Depth& depth, float* out) {
  Pack<kRightRows, kRightLine>(x, panels, depth, out);
}

void MultiplyPanels(const float* left, const float* right, int64_t depth, const Block& c,
                    bool add, Ahead ahead) {
  MultiplyRows<kLeftRows>(left, right, depth, c, add, ahead);
}

}  // namespace liger::kernels::panels

#else  // a compiler or a CPU family without it

namespace liger::kernels::panels {

bool HasAvx512() { return false; }
void PackLeft(const Operand&, const Panels&, const Depth&, float*) {}
void PackRight(const Operand&, const Panels&, const Depth&, float*) {}
void MultiplyPanels(const float*, const float*, int64_t, const Block&, bool, Ahead) {}

}  // namespace liger::kernels::panels

#endif
