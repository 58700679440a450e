#ifndef LIGER_KERNELS_ATTENTION_TILED_LAUNCH_H_
#define LIGER_KERNELS_ATTENTION_TILED_LAUNCH_H_

#include "kernels/common/launch.h"

namespace liger::kernels::cuda {

// [tokens, heads, H], whose last dimension is contiguous and whose heads begin at 16 bytes.
struct HeadsView {
  const void* data;
  int64_t token_stride, head_stride;  // in elements
};

struct TiledCall {
  Dtype dtype;
  int64_t queries;  // of all sequences
  int64_t sequences, max_queries, max_keys;
  int heads, key_heads, head_dim;
  int window;  // 0: none
  float scale, softcap;
  const int32_t *query_starts, *key_starts;  // [sequences + 1]
  HeadsView query, key, value;
};

// Whether the current device has the shared memory for heads of this size; whole 16 bytes, up to
// 256 numbers.
bool HasTiledAttention(Dtype dtype, int64_t head_dim);

// out [queries, heads, H]; stats [heads, queries, 2], of each row of scores the largest (in 16 bits
// in units of log 2) and 1 / the sum of the exponentials of all less it.
Error TiledAttentionForward(const Queue& queue, const TiledCall& a, void* out, float* stats);

// grad, out, grad_query like out above, grad_key and grad_value [keys, key_heads, H]; delta
// [heads, queries] is scratch. Equal inputs give equal bits.
Error TiledAttentionBackward(const Queue& queue, const TiledCall& a, const void* grad,
                             const void* out, const float* stats, float* delta, void* grad_query,
                             void* grad_key, void* grad_value);

}  // namespace liger::kernels::cuda

#endif  // LIGER_KERNELS_ATTENTION_TILED_LAUNCH_H_
