#include "kernels/common/device.cuh"
#include "kernels/matmul_int2xint8/matmul_int2xint8_launch.h"

namespace liger::kernels::cuda {
namespace {

// A packed byte holds the weights of one column at k = r, R + r, 2 R + r and 3 R + r. Both
// operands take these four as neighbours: a sum does not mind the order of its terms. A row of x
// then is R words of four bytes each, and a byte of weights expands to one such word.
constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kColumns = 32 * kWarps;  // of a block
constexpr int kWords = 32;             // of r in a tile
// Row lengths in shared memory, in words, so that the lanes of a warp fall into different banks.
constexpr int kPitchX = kWords + 4;
constexpr int kPitchW = kColumns / 4 + 8;

struct Problem {
  int64_t M, R, N;
  const uint8_t* x;  // the bits of int8
  const uint8_t* packed;
  int32_t* y;
};

// 16 bytes, of which the first `valid` are there; the others are 0. kWide: all or none are.
template <bool kWide>
__device__ __forceinline__ uint4 LoadBytes(const uint8_t* p, int64_t valid) {
  uint4 out = {0, 0, 0, 0};
  if constexpr (kWide) {
    if (valid > 0) out = *reinterpret_cast<const uint4*>(p);
  } else {
    uint8_t bytes[16];
#pragma unroll
    for (int i = 0; i < 16; ++i) bytes[i] = i < valid ? p[i] : uint8_t{0};
    memcpy(&out, bytes, 16);
  }
  return out;
}

// Bytes j of four words -> word j.
__device__ __forceinline__ uint4 Transposed(unsigned a, unsigned b, unsigned c, unsigned d) {
  const unsigned ab = __byte_perm(a, b, 0x5140), cd = __byte_perm(c, d, 0x5140);
  const unsigned ab_high = __byte_perm(a, b, 0x7362), cd_high = __byte_perm(c, d, 0x7362);
  return {__byte_perm(ab, cd, 0x5410), __byte_perm(ab, cd, 0x7632),
          __byte_perm(ab_high, cd_high, 0x5410), __byte_perm(ab_high, cd_high, 0x7632)};
}

// Four codes of two bits -> four bytes of code - 1.
__device__ __forceinline__ unsigned Expand(unsigned codes) {
  const unsigned spread = (codes | codes << 6 | codes << 12 | codes << 18) & 0x03030303u;
  return ((spread | 0x80808080u) - 0x01010101u) ^ 0x80808080u;
}

__device__ __forceinline__ void Multiply(int (&sum)[4], const unsigned (&a)[4], unsigned b0,
                                         unsigned b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+r"(sum[0]), "+r"(sum[1]), "+r"(sum[2]), "+r"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// What a thread carries of a tile from memory to shared memory.
template <int ROWS, bool kWide>
class Carrier {
 public:
  // Half a row of x's words, from each quarter of the row; a quarter of a row of weights.
  __device__ __forceinline__ void Fetch(const Problem& p, int64_t m0, int64_t n0, int64_t r0) {
    const int64_t m = m0 + row(), r = r0 + half();
    if (row() < ROWS) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        x_[i] = LoadBytes<kWide>(p.x + (m * 4 + i) * p.R + r, m < p.M ? p.R - r : 0);
      }
    }
    const int64_t own = r0 + threadIdx.x / 4, n = n0 + threadIdx.x % 4 * 32;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int64_t column = n + 16 * i;
      w_[i] = LoadBytes<kWide>(p.packed + own * p.N + column, own < p.R ? p.N - column : 0);
    }
  }

  __device__ __forceinline__ void Put(unsigned* x, unsigned* w) const {
    if (row() < ROWS) {
      uint4* to = reinterpret_cast<uint4*>(x + row() * kPitchX + half());
      to[0] = Transposed(x_[0].x, x_[1].x, x_[2].x, x_[3].x);
      to[1] = Transposed(x_[0].y, x_[1].y, x_[2].y, x_[3].y);
      to[2] = Transposed(x_[0].z, x_[1].z, x_[2].z, x_[3].z);
      to[3] = Transposed(x_[0].w, x_[1].w, x_[2].w, x_[3].w);
    }
    uint4* to = reinterpret_cast<uint4*>(w + threadIdx.x / 4 * kPitchW + threadIdx.x % 4 * 8);
    to[0] = w_[0];
    to[1] = w_[1];
  }

 private:
  __device__ __forceinline__ static int row() { return static_cast<int>(threadIdx.x) / 2; }
  __device__ __forceinline__ static int half() { return static_cast<int>(threadIdx.x) % 2 * 16; }

  uint4 x_[4], w_[2];
};

// The product of one tile. A warp has 32 columns, a lane's word of weights four neighbours of
// them: the j-th of each word is a column of the j-th of four products.
template <int TILES>
__device__ __forceinline__ void MultiplyTile(const unsigned* x, const unsigned* w,
                                             int (&sums)[TILES][4][4]) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int group = lane / 4, member = lane % 4;
#pragma unroll
  for (int k = 0; k < kWords; k += 8) {
    const unsigned w0 = w[(k + member) * kPitchW + warp * 8 + group];
    const unsigned w1 = w[(k + 4 + member) * kPitchW + warp * 8 + group];
    unsigned a[TILES][4];
#pragma unroll
    for (int t = 0; t < TILES; ++t) {
      const unsigned* from = x + (t * 16 + group) * kPitchX + k + member;
      a[t][0] = from[0];
      a[t][1] = from[8 * kPitchX];
      a[t][2] = from[4];
      a[t][3] = from[8 * kPitchX + 4];
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const unsigned b0 = Expand(w0 >> (8 * j) & 0xff), b1 = Expand(w1 >> (8 * j) & 0xff);
#pragma unroll
      for (int t = 0; t < TILES; ++t) Multiply(sums[t][j], a[t], b0, b1);
    }
  }
}

// Four neighbouring results.
template <bool kWide>
__device__ __forceinline__ void StoreFour(const Problem& p, int64_t m, int64_t n, int4 v) {
  if (m >= p.M) return;
  int32_t* to = p.y + m * p.N + n;
  if constexpr (kWide) {
    if (n < p.N) *reinterpret_cast<int4*>(to) = v;
  } else {
    const int values[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (n + i < p.N) to[i] = values[i];
    }
  }
}

// A block has TILES * 16 rows and kColumns columns of y.
template <int TILES, bool kWide>
__global__ void __launch_bounds__(kThreads) MatmulKernel(Problem p) {
  constexpr int kRows = TILES * 16;
  __shared__ alignas(16) unsigned x[2][kRows * kPitchX];
  __shared__ alignas(16) unsigned w[2][kWords * kPitchW];
  const int64_t down = (p.M + kRows - 1) / kRows;
  const int64_t m0 = blockIdx.x % down * kRows, n0 = blockIdx.x / down * kColumns;
  int sums[TILES][4][4] = {};
  Carrier<kRows, kWide> carrier;
  carrier.Fetch(p, m0, n0, 0);
  carrier.Put(x[0], w[0]);
  __syncthreads();
  int stage = 0;
  for (int64_t r = 0; r < p.R; r += kWords, stage ^= 1) {
    const bool more = r + kWords < p.R;
    if (more) carrier.Fetch(p, m0, n0, r + kWords);
    MultiplyTile<TILES>(x[stage], w[stage], sums);
    if (more) carrier.Put(x[stage ^ 1], w[stage ^ 1]);
    __syncthreads();
  }
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t n = n0 + warp * 32 + lane % 4 * 8;
#pragma unroll
  for (int t = 0; t < TILES; ++t) {
    const auto& s = sums[t];
    const int64_t m = m0 + t * 16 + lane / 4;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      StoreFour<kWide>(p, m, n + 4 * i, {s[0][i], s[1][i], s[2][i], s[3][i]});
      StoreFour<kWide>(p, m + 8, n + 4 * i, {s[0][2 + i], s[1][2 + i], s[2][2 + i], s[3][2 + i]});
    }
  }
}

template <int TILES>
void Launch(const Queue& queue, const Problem& p) {
  const int64_t down = (p.M + TILES * 16 - 1) / (TILES * 16);
  const auto blocks = GridOf(down * ((p.N + kColumns - 1) / kColumns));
  if (p.R % 16 == 0 && p.N % 16 == 0 && IsAligned(p.x) && IsAligned(p.packed) && IsAligned(p.y)) {
    MatmulKernel<TILES, true><<<blocks, kThreads, 0, StreamOf(queue)>>>(p);
  } else {
    MatmulKernel<TILES, false><<<blocks, kThreads, 0, StreamOf(queue)>>>(p);
  }
}

}  // namespace

Error MatmulInt2xInt8(const Queue& queue, int64_t M, int64_t R, int64_t N, const int8_t* x,
                      const uint8_t* packed, int32_t* y) {
  if (M == 0 || N == 0) return 0;
  const Problem p{
      .M = M, .R = R, .N = N, .x = reinterpret_cast<const uint8_t*>(x), .packed = packed, .y = y};
  if (M <= 16) {
    Launch<1>(queue, p);
  } else {
    Launch<4>(queue, p);
  }
  return LaunchError();
}

}  // namespace liger::kernels::cuda
