// Attention whose scores stay on the chip (FlashAttention-2, Dao 2023, arXiv:2307.08691), for what
// the libraries' kernels do not take: softcaps and float32.
#include <algorithm>

#include "kernels/attention/tiled.cuh"
#include "kernels/common/row_pipeline.cuh"

namespace liger::kernels::cuda {
namespace {

// Of the four lanes that hold a row.
__device__ __forceinline__ float RowMax(float v) {
  v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 1));
  return fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 2));
}

// The softmax of a lane's rows over the tiles so far.
template <typename T, int M>
struct RunningSoftmax {
  float max[2 * M], sum[2 * M];  // the sums of this lane's columns

  __device__ RunningSoftmax() {
#pragma unroll
    for (int m = 0; m < 2 * M; ++m) {
      max[m] = -INFINITY;
      sum[m] = 0;
    }
  }

  // Scores become exponentials; `out` is scaled down to the new maximum.
  template <int TILES, int OUT>
  __device__ __forceinline__ void Add(Fragment<M, TILES>& scores, Fragment<M, OUT>& out) {
#pragma unroll
    for (int m = 0; m < 2 * M; ++m) {
      float top = -INFINITY;
#pragma unroll
      for (int j = 0; j < TILES; ++j) {
        const float* pair = &scores[m / 2][j][m % 2 * 2];
        top = fmaxf(top, fmaxf(pair[0], pair[1]));
      }
      top = fmaxf(max[m], RowMax(top));
      // Rows that have seen nothing yet.
      const float base = top == -INFINITY ? 0 : top;
      const float shrink = Scorer<T>::Exp(max[m] - base);
      max[m] = top;
      sum[m] *= shrink;
#pragma unroll
      for (int j = 0; j < TILES; ++j) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& score = scores[m / 2][j][m % 2 * 2 + e];
          score = Scorer<T>::Exp(score - base);
          sum[m] += score;
        }
      }
#pragma unroll
      for (int j = 0; j < OUT; ++j) {
        out[m / 2][j][m % 2 * 2] *= shrink;
        out[m / 2][j][m % 2 * 2 + 1] *= shrink;
      }
    }
  }
};

template <typename T, int HD>
__global__ void __launch_bounds__(32 * Sizes<T, HD>::kForwardWarps)
    ForwardKernel(TiledCall a, T* __restrict__ out, float2* __restrict__ stats) {
  constexpr int M = Sizes<T, HD>::kForwardM, ROWS = Sizes<T, HD>::kForwardRows;
  constexpr int THREADS = 32 * Sizes<T, HD>::kForwardWarps, KEYS = Sizes<T, HD>::kForwardKeys;
  constexpr int LD = kTileStride<T, HD>, LDP = kTileStride<T, KEYS>;
  extern __shared__ uint4 shared[];
  T* query = reinterpret_cast<T*>(shared);
  T* key = query + ROWS * LD;
  T* value = key + KEYS * LD;
  T* scratch = value + KEYS * LD;

  const QueryTile<ROWS, KEYS> tile(a);
  if (!tile.IsThere()) return;
  const Sequence& s = tile.sequence;
  const int in_block = static_cast<int>(threadIdx.x) / 32 * 16 * M, row = tile.first + in_block;
  const auto fetch = [&](T* keys, const HeadsView& x, int start) {
    tile.template FetchKeys<HD, THREADS>(keys, x, start, a.head_dim);
  };

  tile.template FetchQueries<HD, THREADS>(query, a.query, a.head_dim);
  fetch(key, a.key, tile.begin);
  __pipeline_commit();
  const Scorer<T> scorer(a.scale, a.softcap);
  Fragment<M, HD / 8> result = {};
  RunningSoftmax<T, M> softmax;
  for (int start = tile.begin; start < tile.end; start += KEYS) {
    fetch(value, a.value, start);
    __pipeline_commit();
    __pipeline_wait_prior(1);
    __syncthreads();
    Fragment<M, KEYS / 8> scores = {};
    AddProductOfRows<HD, LD, LD>(scores, query + in_block * LD, key);
    __syncthreads();
    if (start + KEYS < tile.end) fetch(key, a.key, start + KEYS);
    __pipeline_commit();
    const int position = s.prefix + row;
    const Mask mask(a.window, position, position + 16 * M - 1, start, start + KEYS - 1);
    DispatchScores(scorer.is_capped(), mask.sees_all, [&](auto is_capped, auto sees_all) {
#pragma unroll
      for (int m = 0; m < M; ++m) {
#pragma unroll
        for (int j = 0; j < KEYS / 8; ++j) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const bool sees = sees_all() || mask.Sees(position + m * 16 + FragmentRow() + i / 2 * 8,
                                                      start + j * 8 + FragmentColumn() + i % 2);
            float& score = scores[m][j][i];
            score = sees ? scorer.template Value<is_capped()>(score) : -INFINITY;
          }
        }
      }
    });
    softmax.Add(scores, result);
    __pipeline_wait_prior(1);
    __syncthreads();
    AddProductOf<LDP, LD>(result, scores, value, scratch + in_block * LDP);
    __syncthreads();
  }

#pragma unroll
  for (int m = 0; m < 2 * M; ++m) {
    const float sum = RowSum(softmax.sum[m]);
#pragma unroll
    for (int j = 0; j < HD / 8; ++j) {
      result[m / 2][j][m % 2 * 2] /= sum;
      result[m / 2][j][m % 2 * 2 + 1] /= sum;
    }
    const int r = row + FragmentRow() + 8 * m;
    if (FragmentColumn() == 0 && r < s.queries) {
      stats[tile.head * a.queries + s.query_begin + r] = {softmax.max[m], 1 / sum};
    }
  }
  StoreFragment(out + OffsetOf(s.query_begin + row, tile.head, a.heads, a.head_dim),
                int64_t{a.heads} * a.head_dim, result, 1, s.queries - row, a.head_dim);
}

}  // namespace

bool HasTiledAttention(Dtype dtype, int64_t head_dim) {
  const int64_t bytes = head_dim * (dtype == Dtype::kFloat ? 4 : 2);
  if (head_dim == 0 || head_dim > 256 || bytes % 16 != 0) return false;
  int device = 0, most = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) !=
          cudaSuccess) {
    cudaGetLastError();
    return false;
  }
  return DispatchHeads(dtype, head_dim, [&](auto t, auto size) {
    using S = Sizes<typename decltype(t)::type, size()>;
    return std::max({S::kForwardBytes, S::kQueryBytes, S::kKeyBytes}) <= static_cast<size_t>(most);
  });
}

Error TiledAttentionForward(const Queue& queue, const TiledCall& a, void* out, float* stats) {
  if (a.queries == 0 || a.heads == 0) return 0;
  return DispatchHeads(a.dtype, a.head_dim, [&](auto t, auto size) -> Error {
    using T = typename decltype(t)::type;
    using S = Sizes<T, size()>;
    constexpr auto kKernel = &ForwardKernel<T, size()>;
    constexpr int kThreads = 32 * S::kForwardWarps;
    if (BlocksPerSm<kKernel>(kThreads, S::kForwardBytes) == 0) return cudaErrorInvalidConfiguration;
    kKernel<<<GridOfTiles(a, a.max_queries, S::kForwardRows, a.heads), kThreads, S::kForwardBytes,
              StreamOf(queue)>>>(a, static_cast<T*>(out), reinterpret_cast<float2*>(stats));
    return LaunchError();
  });
}

}  // namespace liger::kernels::cuda
