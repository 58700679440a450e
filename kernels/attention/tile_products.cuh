#ifndef LIGER_KERNELS_ATTENTION_TILE_PRODUCTS_CUH_
#define LIGER_KERNELS_ATTENTION_TILE_PRODUCTS_CUH_

#include <cuda_pipeline.h>

#include "kernels/common/device.cuh"

// Tiles of rows in shared memory, and products of a warp's 16 rows, or 32, with them.
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

}  // namespace liger::kernels::cuda

#endif  // LIGER_KERNELS_ATTENTION_TILE_PRODUCTS_CUH_
