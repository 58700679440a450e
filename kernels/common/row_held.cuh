#ifndef LIGER_KERNELS_COMMON_ROW_HELD_CUH_
#define LIGER_KERNELS_COMMON_ROW_HELD_CUH_

#include "kernels/common/device.cuh"
#include "kernels/common/row_pipeline.cuh"

// What the norms' forward kernels share: a row in the registers of a warp or of a block, and as
// many small blocks as there are rows. What a kernel moves in 50 us is done sooner by many blocks
// that start and end at different times than by a few that each fetch ahead.
namespace liger::kernels::cuda {

inline constexpr int kWarpRows = 4;  // rows of a block whose warps take one each

// The threads that share a row, as packs of kWide<T> elements each of them holds.
template <int PACKS, bool WARP>
struct RowHold {
  static constexpr int kPacks = PACKS;
  static constexpr bool kIsWarp = WARP;
  static constexpr int kMostThreads = WARP ? 32 * kWarpRows : kMaxThreads;
  static constexpr int kMinBlocks = WARP ? 8 : 2;

  __device__ __forceinline__ static int64_t Row() {
    return WARP ? int64_t{blockIdx.x} * kWarpRows + threadIdx.x / 32 : int64_t{blockIdx.x};
  }
  __device__ __forceinline__ static int Rank() {
    return static_cast<int>(WARP ? threadIdx.x % 32 : threadIdx.x);
  }
  // In packs.
  __device__ __forceinline__ static int Column(int i) {
    return i * static_cast<int>(WARP ? 32 : blockDim.x) + Rank();
  }
  // As BlockSum, over the threads of the row.
  __device__ __forceinline__ static float Sum(float v, float* scratch) {
    if constexpr (WARP) return WarpSum(v);
    return BlockSum(v, scratch);
  }
};

// Calls f(RowHold) with the one for rows of this shape, threads of a block and blocks. False, and
// no call: the row is too long, not whole packs or not aligned.
template <typename F>
bool DispatchRowHold(const RowsShape& shape, bool aligned, F&& f) {
  const int64_t wide = shape.dtype == Dtype::kFloat ? 4 : 8;
  const int64_t packs = shape.H / wide;
  if (!aligned || shape.H % wide != 0 || packs > kMaxPacks * kMaxThreads) return false;
  const auto warps = [&](auto each) {
    f(RowHold<each(), true>{}, 32 * kWarpRows, (shape.rows + kWarpRows - 1) / kWarpRows);
  };
  const auto blocks = [&](auto each) {
    constexpr int kRound = each() * 32;
    const auto threads = static_cast<int>((packs + kRound - 1) / kRound * 32);
    f(RowHold<each(), false>{}, threads, shape.rows);
  };
  if (packs <= 32) {
    warps(std::integral_constant<int, 1>{});
  } else if (packs <= 64) {
    warps(std::integral_constant<int, 2>{});
  } else if (packs <= 128) {
    blocks(std::integral_constant<int, 2>{});
  } else {
    blocks(std::integral_constant<int, kMaxPacks>{});
  }
  return true;
}

}  // namespace liger::kernels::cuda

#endif  // LIGER_KERNELS_COMMON_ROW_HELD_CUH_
