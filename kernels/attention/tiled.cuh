#ifndef LIGER_KERNELS_ATTENTION_TILED_CUH_
#define LIGER_KERNELS_ATTENTION_TILED_CUH_

#include <cuda_pipeline.h>

#include "kernels/attention/tiled_launch.h"
#include "kernels/common/device.cuh"

// What attention's forward and backward kernels share: tiles of rows in shared memory, products of
// a warp's 16 rows with them, and what a score becomes.
namespace liger::kernels::cuda {

// A row of a tile is followed by 16 bytes, so that eight rows' first 16 bytes lie in different
// banks.
template <typename T, int COLS>
inline constexpr int kTileStride = COLS + kWide<T>;
template <typename T, int ROWS, int COLS>
inline constexpr int kTileSize = ROWS* kTileStride<T, COLS>;

// Rows [0, valid) of H numbers into a tile of ROWS x COLS, zeros beyond; the caller commits.
template <int ROWS, int COLS, int THREADS, typename T>
__device__ __forceinline__ void FetchTile(T* tile, const T* rows, int64_t stride, int valid,
                                          int H) {
  constexpr int VEC = kWide<T>, PACKS = COLS / VEC;
  for (int i = threadIdx.x; i < ROWS * PACKS; i += THREADS) {
    const int row = i / PACKS, h = i % PACKS * VEC;
    const bool is_there = row < valid && h < H;
    __pipeline_memcpy_async(tile + row * kTileStride<T, COLS> + h,
                            is_there ? rows + row * stride + h : rows, 16, is_there ? 0 : 16);
  }
}

// A warp's piece of a product: 16 M rows and 8 TILES columns. Of each 16 x 8 a lane holds
// [row, column], [row, column + 1] and the same 8 rows below.
template <int M, int TILES>
using Fragment = float[M][TILES][4];
__device__ __forceinline__ int FragmentRow() { return static_cast<int>(threadIdx.x) % 32 / 4; }
__device__ __forceinline__ int FragmentColumn() { return static_cast<int>(threadIdx.x) % 4 * 2; }

__device__ __forceinline__ void LoadMatrices(uint32_t (&m)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}
__device__ __forceinline__ void LoadTransposed(uint32_t (&m)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}

template <typename T>
__device__ __forceinline__ void MultiplyAdd(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                            uint32_t b1) {
  if constexpr (std::is_same_v<T, __half>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

// c += a b^T of a's 16 M rows and b's 8 TILES rows, both of DEPTH numbers; LDA and LDB lie between
// rows. float32 takes its own arithmetic: a tensor core would round to TF32.
template <int DEPTH, int LDA, int LDB, int M, int TILES, typename T>
__device__ __forceinline__ void AddProductOfRows(Fragment<M, TILES>& c, const T* a, const T* b) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if constexpr (std::is_same_v<T, float>) {
    static_assert(M == 1);
    const float* a_row = a + FragmentRow() * LDA;
    const float* b_row = b + FragmentColumn() * LDB;
#pragma unroll 2
    for (int k = 0; k < DEPTH; k += 4) {
      const auto a0 = Load<4>(a_row + k), a1 = Load<4>(a_row + 8 * LDA + k);
#pragma unroll
      for (int j = 0; j < TILES; ++j) {
        const float* b_tile = b_row + j * 8 * LDB + k;
        const auto b0 = Load<4>(b_tile), b1 = Load<4>(b_tile + LDB);
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          c[0][j][0] = fmaf(a0.v[e], b0.v[e], c[0][j][0]);
          c[0][j][1] = fmaf(a0.v[e], b1.v[e], c[0][j][1]);
          c[0][j][2] = fmaf(a1.v[e], b0.v[e], c[0][j][2]);
          c[0][j][3] = fmaf(a1.v[e], b1.v[e], c[0][j][3]);
        }
      }
    }
  } else {
    static_assert(TILES % 2 == 0 && DEPTH % 16 == 0);
    const T* a_row = a + lane % 16 * LDA + lane / 16 * 8;
    const T* b_row = b + (lane % 8 + lane / 16 * 8) * LDB + lane / 8 % 2 * 8;
#pragma unroll 2
    for (int k = 0; k < DEPTH; k += 16) {
      uint32_t left[M][4];
#pragma unroll
      for (int m = 0; m < M; ++m) LoadMatrices(left[m], a_row + m * 16 * LDA + k);
#pragma unroll
      for (int j = 0; j < TILES; j += 2) {
        uint32_t right[4];
        LoadMatrices(right, b_row + j * 8 * LDB + k);
#pragma unroll
        for (int m = 0; m < M; ++m) {
          MultiplyAdd<T>(c[m][j], left[m], right[0], right[1]);
          MultiplyAdd<T>(c[m][j + 1], left[m], right[2], right[3]);
        }
      }
    }
  }
}

// c += a b for 16 numbers of each of a's rows, in registers, and as many rows of b in 16 bits.
template <int LDB, int M, int TILES, typename T>
__device__ __forceinline__ void AddProductStep(Fragment<M, TILES>& c, const uint32_t (&left)[M][4],
                                               const T* b) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const T* b_row = b + lane % 16 * LDB + lane / 16 * 8;
#pragma unroll
  for (int j = 0; j < TILES; j += 2) {
    uint32_t right[4];
    LoadTransposed(right, b_row + j * 8);
#pragma unroll
    for (int m = 0; m < M; ++m) {
      MultiplyAdd<T>(c[m][j], left[m], right[0], right[1]);
      MultiplyAdd<T>(c[m][j + 1], left[m], right[2], right[3]);
    }
  }
}

// c += a b of a's 16 M rows of DEPTH numbers and b's DEPTH rows, of which the first 8 TILES columns
// count.
template <int DEPTH, int LDA, int LDB, int M, int TILES, typename T>
__device__ __forceinline__ void AddProduct(Fragment<M, TILES>& c, const T* a, const T* b) {
  if constexpr (std::is_same_v<T, float>) {
    static_assert(M == 1);
    const float* a_row = a + FragmentRow() * LDA;
    const float* b_column = b + FragmentColumn();
#pragma unroll 1
    for (int k = 0; k < DEPTH; k += 4) {
      const auto a0 = Load<4>(a_row + k), a1 = Load<4>(a_row + 8 * LDA + k);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
#pragma unroll
        for (int j = 0; j < TILES; ++j) {
          const auto pair = Load<2>(b_column + (k + e) * LDB + j * 8);
          c[0][j][0] = fmaf(a0.v[e], pair.v[0], c[0][j][0]);
          c[0][j][1] = fmaf(a0.v[e], pair.v[1], c[0][j][1]);
          c[0][j][2] = fmaf(a1.v[e], pair.v[0], c[0][j][2]);
          c[0][j][3] = fmaf(a1.v[e], pair.v[1], c[0][j][3]);
        }
      }
    }
  } else {
    static_assert(TILES % 2 == 0 && DEPTH % 16 == 0);
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const T* a_row = a + lane % 16 * LDA + lane / 16 * 8;
#pragma unroll
    for (int k = 0; k < DEPTH; k += 16) {
      uint32_t left[M][4];
#pragma unroll
      for (int m = 0; m < M; ++m) LoadMatrices(left[m], a_row + m * 16 * LDA + k);
      AddProductStep<LDB>(c, left, b + k * LDB);
    }
  }
}

// Over the four lanes that hold a row.
__device__ __forceinline__ float RowSum(float v) {
  v += __shfl_xor_sync(0xffffffffu, v, 1);
  return v + __shfl_xor_sync(0xffffffffu, v, 2);
}

// Rows of LD numbers, in shared or global memory; `row` is the first of the warp's.
template <int M, int TILES, typename T>
__device__ __forceinline__ void StoreFragment(T* row, int64_t ld, const Fragment<M, TILES>& c,
                                              float scale = 1, int rows = 16 * M,
                                              int cols = 8 * TILES) {
#pragma unroll
  for (int m = 0; m < 2 * M; ++m) {
    const int r = FragmentRow() + 8 * m, half = m % 2;
    if (r >= rows) break;
#pragma unroll
    for (int j = 0; j < TILES; ++j) {
      const int column = j * 8 + FragmentColumn();
      if (column >= cols) break;
      const float pair[2] = {c[m / 2][j][2 * half] * scale, c[m / 2][j][2 * half + 1] * scale};
      Store<2>(row + r * ld + column, Packed<T>(pair));
    }
  }
}

template <typename T>
__device__ __forceinline__ uint32_t PackedPair(float a, float b) {
  const float pair[2] = {a, b};
  const Pack<T, 2> packed = Packed<T>(pair);
  uint32_t bits;
  memcpy(&bits, &packed, sizeof(bits));
  return bits;
}

// c += a b for a's of a product before, rounded to T: 16-bit numbers lie in the lanes where the
// next product wants them, float32 goes through the warp's own rows of `scratch`.
template <int LDA, int LDB, int M, int DEPTH_TILES, int TILES, typename T>
__device__ __forceinline__ void AddProductOf(Fragment<M, TILES>& c,
                                             const Fragment<M, DEPTH_TILES>& a, const T* b,
                                             T* scratch) {
  if constexpr (std::is_same_v<T, float>) {
    StoreFragment(scratch, LDA, a);
    __syncwarp();
    AddProduct<8 * DEPTH_TILES, LDA, LDB>(c, scratch, b);
    __syncwarp();
  } else {
#pragma unroll
    for (int j = 0; j < DEPTH_TILES; j += 2) {
      uint32_t left[M][4];
#pragma unroll
      for (int m = 0; m < M; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float* pair = &a[m][j + i / 2][i % 2 * 2];
          left[m][i] = PackedPair<T>(pair[0], pair[1]);
        }
      }
      AddProductStep<LDB>(c, left, b + j * 8 * LDB);
    }
  }
}

// A sequence's tokens; its query i stands at its key prefix + i.
struct Sequence {
  int query_begin, queries, key_begin, keys, prefix;
};
__device__ __forceinline__ Sequence SequenceOf(const TiledCall& a, int64_t s) {
  Sequence q;
  q.query_begin = a.query_starts[s];
  q.queries = a.query_starts[s + 1] - q.query_begin;
  q.key_begin = a.key_starts[s];
  q.keys = a.key_starts[s + 1] - q.key_begin;
  q.prefix = q.keys - q.queries;
  return q;
}

template <typename T>
__device__ __forceinline__ const T* RowOf(const HeadsView& x, int token, int head) {
  return static_cast<const T*>(x.data) + token * x.token_stride + head * x.head_stride;
}

// Of a head of a contiguous [tokens, heads, H].
__device__ __forceinline__ int64_t OffsetOf(int64_t token, int head, int heads, int H) {
  return (token * heads + head) * H;
}

// Which of the keys [first_key, last_key] the queries at [first, last] see.
struct Mask {
  int window;
  bool sees_all;

  __device__ Mask(int window, int first, int last, int first_key, int last_key)
      : window(window), sees_all(last_key <= first && (window == 0 || first_key > last - window)) {}
  __device__ __forceinline__ bool Sees(int position, int key) const {
    return key <= position && (window == 0 || key > position - window);
  }
};

// Calls f(is_capped, sees_all) with constants, so that a loop over scores asks neither.
template <typename F>
__device__ __forceinline__ void DispatchScores(bool is_capped, bool sees_all, const F& f) {
  using Yes = std::true_type;
  using No = std::false_type;
  if (is_capped) {
    sees_all ? f(Yes{}, Yes{}) : f(Yes{}, No{});
  } else {
    sees_all ? f(No{}, Yes{}) : f(No{}, No{});
  }
}

// What a product q k becomes. 16-bit results have no use for the last digits of float32's
// functions; there a score is in units of log 2.
template <typename T>
class Scorer {
 public:
  __device__ Scorer(float scale, float softcap)
      : capped_(softcap != 0),
        scale_(capped_ ? scale / softcap * (kIsFloat ? 1.0f : 2 * kLog2e)
                       : scale * (kIsFloat ? 1.0f : kLog2e)),
        cap_(softcap * (kIsFloat ? 1.0f : kLog2e)) {}

  __device__ __forceinline__ bool is_capped() const { return capped_; }

  // What enters the softmax, and its derivative in the product / scale.
  template <bool IS_CAPPED>
  __device__ __forceinline__ float Value(float product) const {
    if constexpr (IS_CAPPED) return cap_ * Tanh(product * scale_);
    return product * scale_;
  }
  template <bool IS_CAPPED>
  __device__ __forceinline__ float ValueAndSlope(float product, float& slope) const {
    if constexpr (IS_CAPPED) {
      const float tanh = Tanh(product * scale_);
      slope = 1 - tanh * tanh;
      return cap_ * tanh;
    }
    slope = 1;
    return product * scale_;
  }
  // Of a difference of scores.
  __device__ __forceinline__ static float Exp(float x) {
    if constexpr (kIsFloat) return expf(x);
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
  }

 private:
  static constexpr bool kIsFloat = std::is_same_v<T, float>;
  static constexpr float kLog2e = 1.44269504088896341f;
  __device__ __forceinline__ static float Tanh(float x) {
    if constexpr (kIsFloat) return tanhf(x);
    // x is in units of log 2 / 2. The difference has no digits left where x is small, as it is with
    // a large softcap; the series is within 1e-6 of itself there.
    const float u = x * (0.5f / kLog2e), u2 = u * u;
    const float series = u * fmaf(u2, fmaf(u2, 2.0f / 15, -1.0f / 3), 1.0f);
    return fabsf(x) < 0.5f ? series : 1.0f - __fdividef(2.0f, 1.0f + Exp(x));
  }

  bool capped_;
  float scale_, cap_;
};

// Tile sizes, by dtype and head size (64, 128 or 256): what fits into 163 KiB of shared memory
// (compute capability 8.0), 16-bit heads up to 128 into 99.
template <typename T, int HD>
struct Sizes {
  static constexpr bool kIsFloat = std::is_same_v<T, float>;
  static constexpr bool kIsWide = HD > 128;
  // Forward, and the gradient of queries: 16 or 32 queries a warp against tiles of keys.
  static constexpr int kForwardWarps = 4;
  static constexpr int kForwardM = kIsFloat || kIsWide ? 1 : 2;
  static constexpr int kForwardRows = 16 * kForwardM * kForwardWarps;
  static constexpr int kForwardKeys = kIsFloat || HD == 128 ? 32 : 64;
  static constexpr int kQueryWarps = 4;
  static constexpr int kQueryM = kIsFloat || kIsWide ? 1 : 2;
  static constexpr int kQueryRows = 16 * kQueryM * kQueryWarps;
  static constexpr int kQueryKeys = kIsFloat && kIsWide ? 8 : kIsFloat || HD > 64 ? 32 : 64;
  // The gradients of keys and values: 16 keys a warp against tiles of queries, whose columns, and
  // those of the results, are split between kKeySplit warps.
  static constexpr int kKeyWarps = kIsFloat && kIsWide ? 2 : 4;
  static constexpr int kKeySplit = kIsFloat && kIsWide ? 4 : 2;
  static constexpr int kKeyQueries = kIsFloat || kIsWide ? 32 : 64;

  static constexpr size_t kForwardBytes =
      sizeof(T) * (kTileSize<T, kForwardRows, HD> + 2 * kTileSize<T, kForwardKeys, HD> +
                   (kIsFloat ? kTileSize<T, kForwardRows, kForwardKeys> : 0));
  static constexpr size_t kQueryBytes =
      sizeof(T) * (2 * kTileSize<T, kQueryRows, HD> + 2 * kTileSize<T, kQueryKeys, HD> +
                   (kIsFloat ? kTileSize<T, kQueryRows, kQueryKeys> : 0));
  static constexpr size_t kKeyTileBytes =
      sizeof(T) * (2 * kTileSize<T, 16 * kKeyWarps, HD> + 2 * kTileSize<T, kKeyQueries, HD> +
                   2 * kTileSize<T, 16 * kKeyWarps, kKeyQueries>);
  static constexpr size_t kKeyBytes = kKeyTileBytes + 3 * sizeof(float) * kKeyQueries;
};

// Calls f(TypeTag<T>{}, std::integral_constant<int, HD>{}) with the next larger head size.
template <typename F>
auto DispatchHeads(Dtype dtype, int64_t head_dim, F&& f) {
  return DispatchDtype(dtype, [&](auto t) {
    if (head_dim <= 64) return f(t, std::integral_constant<int, 64>{});
    if (head_dim <= 128) return f(t, std::integral_constant<int, 128>{});
    return f(t, std::integral_constant<int, 256>{});
  });
}

// A block for each head and each `rows` tokens of each sequence.
inline dim3 GridOfTiles(const TiledCall& a, int64_t longest, int rows, int heads) {
  return {GridOf(a.sequences * ((longest + rows - 1) / rows)), static_cast<unsigned>(heads)};
}

}  // namespace liger::kernels::cuda

#endif  // LIGER_KERNELS_ATTENTION_TILED_CUH_
