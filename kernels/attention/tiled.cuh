#ifndef LIGER_KERNELS_ATTENTION_TILED_CUH_
#define LIGER_KERNELS_ATTENTION_TILED_CUH_

#include "kernels/attention/tile_products.cuh"
#include "kernels/attention/tiled_launch.h"

// What attention's forward and backward kernels share: which tokens a block works on, which of
// their keys they see, and what a score becomes.
namespace liger::kernels::cuda {

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

// A block's ROWS queries of one head, from query `first` of their sequence on, and the keys that
// they see, in tiles of KEYS from `begin` to `end`. The last queries see the most, and begin first.
template <int ROWS, int KEYS>
struct QueryTile {
  Sequence sequence;
  int head, key_head, first, begin, end;

  __device__ explicit QueryTile(const TiledCall& a)
      : head(static_cast<int>(blockIdx.y)), key_head(head / (a.heads / a.key_heads)) {
    const int64_t tiles = (a.max_queries + ROWS - 1) / ROWS;
    sequence = SequenceOf(a, blockIdx.x / tiles);
    first = static_cast<int>(tiles - 1 - blockIdx.x % tiles) * ROWS;
    const int position = sequence.prefix + first;
    begin = a.window > 0 ? max(0, position - a.window + 1) / KEYS * KEYS : 0;
    end = min(sequence.keys, position + ROWS);
  }
  // Sequences shorter than the longest have fewer tiles.
  __device__ __forceinline__ bool IsThere() const { return first < sequence.queries; }

  // The caller commits.
  template <int HD, int THREADS, typename T>
  __device__ __forceinline__ void FetchQueries(T* tile, const HeadsView& x, int H) const {
    FetchTile<ROWS, HD, THREADS>(tile, RowOf<T>(x, sequence.query_begin + first, head),
                                 x.token_stride, sequence.queries - first, H);
  }
  template <int HD, int THREADS, typename T>
  __device__ __forceinline__ void FetchKeys(T* tile, const HeadsView& x, int start, int H) const {
    FetchTile<KEYS, HD, THREADS>(tile, RowOf<T>(x, sequence.key_begin + start, key_head),
                                 x.token_stride, sequence.keys - start, H);
  }
};

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
