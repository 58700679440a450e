#include "kernels/linear/split_tiles.h"

#if defined(__AMX_BF16__) && defined(__AVX512BW__)

#include <sys/syscall.h>
#include <unistd.h>

#include "kernels/linear/avx512.h"

namespace liger::kernels::split {
namespace {

using avx512::Below;
using avx512::Transpose;

// ---- Is it there? ------------------------------------------------------------

bool AskForTiles() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // asm/prctl.h
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw")) {
    return false;
  }
  uint32_t eax = 7, ebx = 0, ecx = 0, edx = 0;
  __asm__("cpuid" : "+a"(eax), "+b"(ebx), "+c"(ecx), "+d"(edx));
  constexpr uint32_t kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;
  if ((edx & kAmxBf16) == 0 || (edx & kAmxTile) == 0) return false;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

// ---- Packing -----------------------------------------------------------------

// Reads scaled numbers, and remembers the largest magnitude.
struct Reader {
  __m512i largest = _mm512_setzero_si512();

  __m512 Read(const float* from, __mmask16 mask) {
    const __m512 value = _mm512_maskz_loadu_ps(mask, from);
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    largest = _mm512_max_epu32(largest, _mm512_and_si512(_mm512_castps_si512(value), magnitude));
    return _mm512_mul_ps(value, _mm512_set1_ps(kScale));
  }
};

// The nearest number whose lower half is zero (halfway: away from zero), a bfloat16.
inline __m512i High(__m512 x) {
  const __m512i half = _mm512_set1_epi32(0x8000), mask = _mm512_set1_epi32(int(0xffff0000u));
  return _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(x), half), mask);
}

// x without that, exactly: what is left of 24 bits has at most 16, and then at most 8.
inline __m512 Without(__m512 x, __m512i high) {
  return _mm512_sub_ps(x, _mm512_castsi512_ps(high));
}

// Upper halves of first[0], ..., first[15], second[0], ..., second[15].
struct Append {
  __m512i index = Index();
  static __m512i Index() {
    alignas(64) uint16_t odd[32];
    for (int i = 0; i < 32; ++i) odd[i] = static_cast<uint16_t>(2 * i + 1);
    return _mm512_load_si512(odd);
  }
  __m512i operator()(__m512i first, __m512i second) const {
    return _mm512_permutex2var_epi16(first, index, second);
  }
};

// Upper halves of first[0], second[0], first[1], second[1], ...
struct Interleave {
  __m512i operator()(__m512i first, __m512i second) const {
    return _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(first, 16), second);
  }
};

// The three planes of two vectors as one row of each tile.
template <typename Join>
inline void SplitRow(__m512 x, __m512 y, const Join& join, uint16_t* out) {
  const __m512i high_x = High(x), high_y = High(y);
  x = Without(x, high_x), y = Without(y, high_y);
  const __m512i middle_x = High(x), middle_y = High(y);
  x = Without(x, middle_x), y = Without(y, middle_y);
  _mm512_store_si512(out, join(high_x, high_y));
  _mm512_store_si512(out + 2 * kTileSize, join(middle_x, middle_y));
  _mm512_store_si512(out + 4 * kTileSize, join(_mm512_castps_si512(x), _mm512_castps_si512(y)));
}

// Where a tile begins in X, and how much of it is there: rows of memory and numbers in them.
struct Corner {
  const float* from;
  int64_t stride, lines, length;
};

// Line i of 32 (of 16, two vectors each) of memory is row i (or pair of rows) of the tile.
inline void PackInOrder(const Corner& x, bool k_contiguous, Reader& reader, uint16_t* out) {
  if (k_contiguous) {
    const Append join;
    const __mmask16 first = Below(x.length), second = Below(x.length - 16);
    for (int64_t i = 0; i < kTileRows; ++i) {
      const bool in = i < x.lines;
      const float* from = x.from + i * x.stride;
      const __m512 low = reader.Read(from, in ? first : __mmask16{0});
      SplitRow(low, reader.Read(from + 16, in ? second : __mmask16{0}), join, out + i * kStepDepth);
    }
    return;
  }
  const __mmask16 mask = Below(x.length);
  for (int64_t i = 0; i < kTileRows; ++i) {
    const float* from = x.from + 2 * i * x.stride;
    const __m512 even = reader.Read(from, 2 * i < x.lines ? mask : __mmask16{0});
    const __m512 odd = reader.Read(from + x.stride, 2 * i + 1 < x.lines ? mask : __mmask16{0});
    SplitRow(even, odd, Interleave(), out + i * kStepDepth);
  }
}

// The same with rows and columns exchanged.
inline void PackTransposed(const Corner& x, bool k_contiguous, Reader& reader, uint16_t* out) {
  alignas(64) float block[2][16][16];
  for (int64_t half = 0; half < 2; ++half) {
    const int64_t line = k_contiguous ? 0 : 16 * half, column = k_contiguous ? 16 * half : 0;
    const __mmask16 mask = Below(x.length - column);
    const float* from = x.from + line * x.stride + column;
    __m512i lines[16];
    for (int64_t i = 0; i < 16; ++i) {
      const bool in = line + i < x.lines;
      lines[i] = _mm512_castps_si512(reader.Read(from + i * x.stride, in ? mask : __mmask16{0}));
    }
    Transpose(lines);
    for (int64_t i = 0; i < 16; ++i) _mm512_store_si512(block[half][i], lines[i]);
  }
  if (k_contiguous) {
    for (int64_t i = 0; i < kTileRows; ++i) {
      const float(*pair)[16] = block[i / 8] + 2 * (i % 8);
      SplitRow(_mm512_load_ps(pair[0]), _mm512_load_ps(pair[1]), Interleave(),
               out + i * kStepDepth);
    }
    return;
  }
  const Append join;
  for (int64_t i = 0; i < kTileRows; ++i) {
    SplitRow(_mm512_load_ps(block[0][i]), _mm512_load_ps(block[1][i]), join, out + i * kStepDepth);
  }
}

// Some steps of one panel. Returns the bits of the largest magnitude.
uint32_t PackSteps(const Operand& x, Side side, int64_t row, const Steps& steps, uint16_t* out) {
  Reader reader;
  const bool in_order = x.k_contiguous == (side == Side::kLeft);
  const int64_t tiles = x.rows - row > kTileRows ? 2 : 1;
  for (int64_t step = 0; step < steps.count; ++step) {
    const int64_t k = (steps.begin + step) * kStepDepth;
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t first = row + t * kTileRows;
      const Corner corner =
          x.k_contiguous
              ? Corner{x.data + first * x.stride + k, x.stride, x.rows - first, x.depth - k}
              : Corner{x.data + k * x.stride + first, x.stride, x.depth - k, x.rows - first};
      (in_order ? PackInOrder : PackTransposed)(corner, x.k_contiguous, reader,
                                                out + step * kStepSize + t * kTileSize);
    }
  }
  return _mm512_reduce_max_epu32(reader.largest);
}

// ---- Multiplying -------------------------------------------------------------

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes_per_row[16] = {};
  uint8_t rows[16] = {};
};

constexpr int64_t kStride = 64;  // bytes of a tile's row
constexpr int64_t kLine = 64 / sizeof(uint16_t);
constexpr int64_t kHigh = 0, kMiddle = 2 * kTileSize, kLow = 4 * kTileSize;

// Tiles 0 to 3 are c (row-major), 4 and 5 left, 6 and 7 right.
template <int R>
inline void LoadLeft(const uint16_t* plane) {
  _tile_loadd(4, plane, kStride);
  if constexpr (R == 2) _tile_loadd(5, plane + kTileSize, kStride);
}

template <int C>
inline void LoadRight(const uint16_t* plane) {
  _tile_loadd(6, plane, kStride);
  if constexpr (C == 2) _tile_loadd(7, plane + kTileSize, kStride);
}

template <int R, int C>
inline void Multiply() {
  _tile_dpbf16ps(0, 4, 6);
  if constexpr (C == 2) _tile_dpbf16ps(1, 4, 7);
  if constexpr (R == 2) _tile_dpbf16ps(2, 5, 6);
  if constexpr (R == 2 && C == 2) _tile_dpbf16ps(3, 5, 7);
}

// Sums of R x C tiles into sums[4][16][16]. The six products of a step are in an order that
// changes one side at a time, which loads 14 tiles for 24 products. All small products of all
// steps before the large ones would round less (by a half), and load more (a tenth slower).
template <int R, int C>
void SumTiles(const uint16_t* left, const uint16_t* right, int64_t steps, Ahead ahead,
              float* sums) {
  // The loads below do not tell the compiler that they read memory.
  __asm__ volatile("" ::: "memory");
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t i = 0; i < steps; ++i) {
    for (int64_t line = 0; line < ahead.lines_per_step; ++line) {
      __builtin_prefetch(ahead.from, /*rw=*/0, /*locality=*/2);
      ahead.from += kLine;
    }
    const uint16_t *l = left + i * kStepSize, *r = right + i * kStepSize;
    LoadLeft<R>(l + kLow), LoadRight<C>(r + kHigh);
    Multiply<R, C>();
    LoadLeft<R>(l + kMiddle);
    Multiply<R, C>();
    LoadRight<C>(r + kMiddle);
    Multiply<R, C>();
    LoadLeft<R>(l + kHigh);
    Multiply<R, C>();
    LoadRight<C>(r + kLow);
    Multiply<R, C>();
    LoadRight<C>(r + kHigh);
    Multiply<R, C>();
  }
  _tile_stored(0, sums, kStride);
  if constexpr (C == 2) _tile_stored(1, sums + 256, kStride);
  if constexpr (R == 2) _tile_stored(2, sums + 512, kStride);
  if constexpr (R == 2 && C == 2) _tile_stored(3, sums + 768, kStride);
}

// So that c is near once its sum is there.
void PrefetchToWrite(const Block& c) {
  for (int64_t i = 0; i < c.rows; ++i) {
    const float* row = c.data + i * c.stride;
    __builtin_prefetch(row, /*rw=*/1);
    __builtin_prefetch(row + c.cols - 1, /*rw=*/1);
  }
}

template <bool add>
void Store(const float* sums, const Block& c) {
  const __m512 scale = _mm512_set1_ps(1 / kScale / kScale);
  const __mmask16 first = Below(c.cols), second = Below(c.cols - kTileRows);
  const auto half = [&](const float* sum, float* to, __mmask16 mask) {
    __m512 value = _mm512_maskz_loadu_ps(mask, sum);
    value = add ? _mm512_fmadd_ps(value, scale, _mm512_maskz_loadu_ps(mask, to))
                : _mm512_mul_ps(value, scale);
    _mm512_mask_storeu_ps(to, mask, value);
  };
  for (int64_t i = 0; i < c.rows; ++i) {
    const float* from = sums + (i / kTileRows) * 512 + (i % kTileRows) * kTileRows;
    half(from, c.data + i * c.stride, first);
    if (second != 0) half(from + 256, c.data + i * c.stride + kTileRows, second);
  }
}

}  // namespace

bool HasTiles() {
  static const bool has = AskForTiles();
  return has;
}

void PackPanels(const Operand& x, Side side, const Panels& panels, const Steps& steps,
                uint16_t* out, uint32_t* largest) {
  // Where the lines of memory run along rows, a line of all panels before the next one.
  const int64_t count = panels.end - panels.begin;
  for (int64_t p = 0; p < count; ++p) largest[p] = 0;
  const int64_t at_once = x.k_contiguous ? steps.count : 1;
  for (int64_t step = 0; step < steps.count; step += at_once) {
    for (int64_t p = 0; p < count; ++p) {
      const uint32_t read =
          PackSteps(x, side, (panels.begin + p) * kPanelRows, {steps.begin + step, at_once},
                    out + (p * steps.count + step) * kStepSize);
      if (read > largest[p]) largest[p] = read;
    }
  }
}

TileScope::TileScope() {
  TileConfig config;
  for (int i = 0; i < 8; ++i) {
    config.bytes_per_row[i] = kStride;
    config.rows[i] = kTileRows;
  }
  // The intrinsic tells the compiler of the first eight bytes alone.
  __asm__ volatile("" : : "r"(&config) : "memory");
  _tile_loadconfig(&config);
}

TileScope::~TileScope() { _tile_release(); }

void MultiplyPanels(const uint16_t* left, const uint16_t* right, int64_t steps, const Block& c,
                    bool add, Ahead ahead) {
  PrefetchToWrite(c);
  alignas(64) float sums[4 * 256];
  const bool tall = c.rows > kTileRows, wide = c.cols > kTileRows;
  const auto sum =
      tall ? (wide ? SumTiles<2, 2> : SumTiles<2, 1>) : (wide ? SumTiles<1, 2> : SumTiles<1, 1>);
  sum(left, right, steps, ahead, sums);
  (add ? Store<true> : Store<false>)(sums, c);
}

}  // namespace liger::kernels::split

#else  // a compiler or a CPU family without them

namespace liger::kernels::split {

bool HasTiles() { return false; }
void PackPanels(const Operand&, Side, const Panels&, const Steps&, uint16_t*, uint32_t*) {}
TileScope::TileScope() = default;
TileScope::~TileScope() = default;
void MultiplyPanels(const uint16_t*, const uint16_t*, int64_t, const Block&, bool, Ahead) {}

}  // namespace liger::kernels::split

#endif
