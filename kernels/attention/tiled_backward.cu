// The gradients of tiled_forward.cu. Two kernels, one that walks over keys for each tile of queries
// and one that walks over queries for each tile of keys, compute the scores again: so every sum has
// one order, and nothing is added up in global memory.
#include "kernels/attention/tiled.cuh"
#include "kernels/common/row_pipeline.cuh"

namespace liger::kernels::cuda {
namespace {

// delta, what each row's softmax takes off its shares' gradients: the sum over keys of share x
// gradient. For 16-bit results from sum over H of grad out, which is the same but for roundings.
template <typename T>
__global__ void DeltaKernel(const T* __restrict__ grad, const T* __restrict__ out, int64_t queries,
                            int heads, int H, float* __restrict__ delta) {
  const int64_t row = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / 32;
  if (row >= queries * heads) return;
  constexpr int VEC = kWide<T>;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float sum = 0;
  for (int h = lane * VEC; h < H; h += 32 * VEC) {
    const auto x = Load<VEC>(grad + row * H + h), y = Load<VEC>(out + row * H + h);
#pragma unroll
    for (int i = 0; i < VEC; ++i) sum += ToFloat(x.v[i]) * ToFloat(y.v[i]);
  }
  sum = WarpSum(sum);
  if (lane == 0) delta[row % heads * queries + row / heads] = sum;
}

// What the backward pass reads beside the inputs: [queries, heads, H] and twice [heads, queries].
template <typename T>
struct Saved {
  const T* grad;
  const float2* stats;
  float* delta;
};

template <typename T, int HD>
__global__ void __launch_bounds__(32 * Sizes<T, HD>::kQueryWarps)
    QueryKernel(TiledCall a, Saved<T> saved, T* __restrict__ grad_query) {
  constexpr int M = Sizes<T, HD>::kQueryM, ROWS = Sizes<T, HD>::kQueryRows;
  constexpr int THREADS = 32 * Sizes<T, HD>::kQueryWarps, KEYS = Sizes<T, HD>::kQueryKeys;
  constexpr int LD = kTileStride<T, HD>, LDP = kTileStride<T, KEYS>;
  extern __shared__ uint4 shared[];
  T* query = reinterpret_cast<T*>(shared);
  T* grad = query + ROWS * LD;
  T* key = grad + ROWS * LD;
  T* value = key + KEYS * LD;
  T* scratch = value + KEYS * LD;

  const QueryTile<ROWS, KEYS> tile(a);
  if (!tile.IsThere()) return;
  const Sequence& s = tile.sequence;
  const int in_block = static_cast<int>(threadIdx.x) / 32 * 16 * M, row = tile.first + in_block;
  const auto fetch = [&](T* keys, const HeadsView& x, int start) {
    tile.template FetchKeys<HD, THREADS>(keys, x, start, a.head_dim);
  };

  const int token_stride = a.heads * a.head_dim;
  tile.template FetchQueries<HD, THREADS>(query, a.query, a.head_dim);
  tile.template FetchQueries<HD, THREADS>(grad, HeadsView{saved.grad, token_stride, a.head_dim},
                                          a.head_dim);
  // In float32 a first pass over the keys makes delta of the very numbers that it is subtracted
  // from: of those that cancel, no rounding is left.
  constexpr bool MAKES_DELTA = std::is_same_v<T, float>;
  float2 stats[2 * M];
  float delta[2 * M];
  const auto index = [&](int m) {
    return tile.head * a.queries + s.query_begin + row + FragmentRow() + 8 * m;
  };
  const auto is_there = [&](int m) { return row + FragmentRow() + 8 * m < s.queries; };
#pragma unroll
  for (int m = 0; m < 2 * M; ++m) {
    stats[m] = is_there(m) ? saved.stats[index(m)] : float2{0, 0};
    delta[m] = !MAKES_DELTA && is_there(m) ? saved.delta[index(m)] : 0;
  }
  const Scorer<T> scorer(a.scale, a.softcap);
  Fragment<M, HD / 8> result = {};
#pragma unroll 1
  for (int pass = MAKES_DELTA ? 0 : 1; pass < 2; ++pass) {
    fetch(key, a.key, tile.begin);
    fetch(value, a.value, tile.begin);
    __pipeline_commit();
    float sum[2 * M] = {};
    for (int start = tile.begin; start < tile.end; start += KEYS) {
      __pipeline_wait_prior(0);
      __syncthreads();
      Fragment<M, KEYS / 8> scores = {}, gains = {};
      AddProductOfRows<HD, LD, LD>(scores, query + in_block * LD, key);
      AddProductOfRows<HD, LD, LD>(gains, grad + in_block * LD, value);
      __syncthreads();
      const bool is_last = start + KEYS >= tile.end;
      if (!is_last) fetch(value, a.value, start + KEYS);
      const int position = s.prefix + row;
      const Mask mask(a.window, position, position + 16 * M - 1, start, start + KEYS - 1);
      DispatchScores(scorer.is_capped(), mask.sees_all, [&](auto is_capped, auto sees_all) {
#pragma unroll
        for (int m = 0; m < M; ++m) {
#pragma unroll
          for (int j = 0; j < KEYS / 8; ++j) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
              const int r = 2 * m + i / 2;
              const bool sees = sees_all() || mask.Sees(position + FragmentRow() + 8 * r,
                                                        start + j * 8 + FragmentColumn() + i % 2);
              float slope, &score = scores[m][j][i];
              const float gain = gains[m][j][i];
              score = scorer.template ValueAndSlope<is_capped()>(score, slope);
              const float share = sees ? Scorer<T>::Exp(score - stats[r].x) * stats[r].y : 0;
              if constexpr (MAKES_DELTA) sum[r] += share * gain;
              score = share * (gain - delta[r]) * slope;
            }
          }
        }
      });
      if (pass == 1) AddProductOf<LDP, LD>(result, scores, key, scratch + in_block * LDP);
      __syncthreads();
      if (!is_last) fetch(key, a.key, start + KEYS);
      __pipeline_commit();
    }
    if (pass == 1) break;
#pragma unroll
    for (int m = 0; m < 2 * M; ++m) {
      delta[m] = RowSum(sum[m]);
      if (FragmentColumn() == 0 && is_there(m)) saved.delta[index(m)] = delta[m];
    }
  }
  StoreFragment(grad_query + OffsetOf(s.query_begin + row, tile.head, a.heads, a.head_dim),
                token_stride, result, a.scale, s.queries - row, a.head_dim);
}

template <typename T, int HD>
__global__ void __launch_bounds__(32 * Sizes<T, HD>::kKeyWarps * Sizes<T, HD>::kKeySplit)
    KeyKernel(TiledCall a, Saved<T> saved, T* __restrict__ grad_key, T* __restrict__ grad_value) {
  constexpr int WARPS = Sizes<T, HD>::kKeyWarps, SPLIT = Sizes<T, HD>::kKeySplit;
  constexpr int KEYS = 16 * WARPS, THREADS = 32 * WARPS * SPLIT;
  constexpr int QUERIES = Sizes<T, HD>::kKeyQueries;
  constexpr int LD = kTileStride<T, HD>, LDQ = kTileStride<T, QUERIES>;
  extern __shared__ uint4 shared[];
  T* key = reinterpret_cast<T*>(shared);
  T* value = key + KEYS * LD;
  T* query = value + KEYS * LD;
  T* grad = query + QUERIES * LD;
  T* shares = grad + QUERIES * LD;
  T* score_grads = shares + KEYS * LDQ;
  float2* stats = reinterpret_cast<float2*>(score_grads + KEYS * LDQ);
  float* delta = reinterpret_cast<float*>(stats + QUERIES);

  // The first keys are seen by the most queries, and begin first.
  const int64_t tiles = (a.max_keys + KEYS - 1) / KEYS;
  const Sequence s = SequenceOf(a, blockIdx.x / tiles);
  const int first = static_cast<int>(blockIdx.x % tiles) * KEYS;
  if (first >= s.keys) return;
  const int key_head = static_cast<int>(blockIdx.y), group = a.heads / a.key_heads;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int row = warp % WARPS * 16;                    // of the keys
  const int column = warp / WARPS * (QUERIES / SPLIT);  // of the queries
  const int wide = warp / WARPS * (HD / SPLIT);         // of the results
  const int begin = max(0, first - s.prefix) / QUERIES * QUERIES;
  const int end = a.window > 0 ? min(s.queries, first + KEYS - 1 + a.window - s.prefix) : s.queries;
  const auto fetch = [&](T* tile, const HeadsView& x) {
    FetchTile<KEYS, HD, THREADS>(tile, RowOf<T>(x, s.key_begin + first, key_head), x.token_stride,
                                 s.keys - first, a.head_dim);
  };
  if (begin < end) {
    fetch(key, a.key);
    fetch(value, a.value);
  }

  const Scorer<T> scorer(a.scale, a.softcap);
  Fragment<1, HD / 8 / SPLIT> key_sum = {}, value_sum = {};
  for (int head = key_head * group; head < (key_head + 1) * group; ++head) {
    for (int start = begin; start < end; start += QUERIES) {
      const int token = s.query_begin + start, valid = s.queries - start;
      FetchTile<QUERIES, HD, THREADS>(query, RowOf<T>(a.query, token, head), a.query.token_stride,
                                      valid, a.head_dim);
      __pipeline_commit();
      FetchTile<QUERIES, HD, THREADS>(grad, saved.grad + OffsetOf(token, head, a.heads, a.head_dim),
                                      int64_t{a.heads} * a.head_dim, valid, a.head_dim);
      __pipeline_commit();
      if (threadIdx.x < QUERIES) {
        const int i = static_cast<int>(threadIdx.x);
        const int64_t at = head * a.queries + token + i;
        stats[i] = i < valid ? saved.stats[at] : float2{0, 0};
        delta[i] = i < valid ? saved.delta[at] : 0;
      }
      __pipeline_wait_prior(1);
      __syncthreads();
      Fragment<1, QUERIES / 8 / SPLIT> scores = {}, gains = {};
      AddProductOfRows<HD, LD, LD>(scores, key + row * LD, query + column * LD);
      __pipeline_wait_prior(0);
      __syncthreads();
      AddProductOfRows<HD, LD, LD>(gains, value + row * LD, grad + column * LD);
      const int position = s.prefix + start;
      const Mask mask(a.window, position + column, position + column + QUERIES / SPLIT - 1,
                      first + row, first + row + 15);
      DispatchScores(scorer.is_capped(), mask.sees_all, [&](auto is_capped, auto sees_all) {
#pragma unroll
        for (int j = 0; j < QUERIES / 8 / SPLIT; ++j) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const int q = column + j * 8 + FragmentColumn() + i % 2;
            const bool sees =
                sees_all() || mask.Sees(position + q, first + row + FragmentRow() + i / 2 * 8);
            float slope, &score = scores[0][j][i], &gain = gains[0][j][i];
            score = scorer.template ValueAndSlope<is_capped()>(score, slope);
            score = sees ? Scorer<T>::Exp(score - stats[q].x) * stats[q].y : 0;
            gain = score * (gain - delta[q]) * slope;
          }
        }
      });
      StoreFragment(shares + row * LDQ + column, LDQ, scores);
      StoreFragment(score_grads + row * LDQ + column, LDQ, gains);
      __syncthreads();
      AddProduct<QUERIES, LDQ, LD>(value_sum, shares + row * LDQ, grad + wide);
      AddProduct<QUERIES, LDQ, LD>(key_sum, score_grads + row * LDQ, query + wide);
      __syncthreads();
    }
  }
  const int64_t at = OffsetOf(s.key_begin + first + row, key_head, a.key_heads, a.head_dim) + wide;
  const int64_t ld = int64_t{a.key_heads} * a.head_dim;
  StoreFragment(grad_key + at, ld, key_sum, a.scale, s.keys - first - row, a.head_dim - wide);
  StoreFragment(grad_value + at, ld, value_sum, 1, s.keys - first - row, a.head_dim - wide);
}

}  // namespace

Error TiledAttentionBackward(const Queue& queue, const TiledCall& a, const void* grad,
                             const void* out, const float* stats, float* delta, void* grad_query,
                             void* grad_key, void* grad_value) {
  return DispatchHeads(a.dtype, a.head_dim, [&](auto t, auto size) -> Error {
    using T = typename decltype(t)::type;
    using S = Sizes<T, size()>;
    constexpr auto kQueries = &QueryKernel<T, size()>;
    constexpr auto kKeys = &KeyKernel<T, size()>;
    constexpr int kQueryThreads = 32 * S::kQueryWarps;
    constexpr int kKeyThreads = 32 * S::kKeyWarps * S::kKeySplit;
    if (BlocksPerSm<kQueries>(kQueryThreads, S::kQueryBytes) == 0 ||
        BlocksPerSm<kKeys>(kKeyThreads, S::kKeyBytes) == 0) {
      return cudaErrorInvalidConfiguration;
    }
    const Saved<T> saved{static_cast<const T*>(grad), reinterpret_cast<const float2*>(stats),
                         delta};
    if (a.queries > 0 && a.heads > 0) {
      if constexpr (!std::is_same_v<T, float>) {
        constexpr int kThreads = 256;
        const int64_t blocks = (a.queries * a.heads + kThreads / 32 - 1) / (kThreads / 32);
        DeltaKernel<T><<<GridOf(blocks), kThreads, 0, StreamOf(queue)>>>(
            saved.grad, static_cast<const T*>(out), a.queries, a.heads, a.head_dim, delta);
      }
      kQueries<<<GridOfTiles(a, a.max_queries, S::kQueryRows, a.heads), kQueryThreads,
                 S::kQueryBytes, StreamOf(queue)>>>(a, saved, static_cast<T*>(grad_query));
    }
    if (a.sequences == 0 || a.max_keys == 0) return LaunchError();
    kKeys<<<GridOfTiles(a, a.max_keys, 16 * S::kKeyWarps, a.key_heads), kKeyThreads, S::kKeyBytes,
            StreamOf(queue)>>>(a, saved, static_cast<T*>(grad_key), static_cast<T*>(grad_value));
    return LaunchError();
  });
}

}  // namespace liger::kernels::cuda
