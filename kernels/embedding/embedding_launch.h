#ifndef LIGER_KERNELS_EMBEDDING_EMBEDDING_LAUNCH_H_
#define LIGER_KERNELS_EMBEDDING_EMBEDDING_LAUNCH_H_

#include "kernels/common/launch.h"

namespace liger::kernels::cuda {

// y [T, H] = weight [V, H] at ids [T]; NaN where an id is outside [0, V).
Error EmbeddingForward(const Queue& queue, Dtype dtype, int64_t T, int64_t V, int64_t H,
                       const int64_t* ids, const void* weight, void* y);

// Up to so many ids their repetitions are looked for, more are sorted: a row of the table whose id
// occurs more than once costs a look at all of them.
inline constexpr int64_t kMostScannedIds = 32768;

// dweight [V, H]: row v is the sum of dy [T, H] over the positions of id v, in ascending order; ids
// outside [0, V) and `padding` (-1: none) are left out. keys [EmbeddingScanKeys(T)] and occurrences
// [2 V] are scratch. REQUIRES: V < 2^31, T <= kMostScannedIds.
int64_t EmbeddingScanKeys(int64_t T);
Error EmbeddingScanBackward(const Queue& queue, Dtype dtype, int64_t T, int64_t V, int64_t H,
                            int64_t padding, const int64_t* ids, const void* dy, int32_t* keys,
                            int32_t* occurrences, void* dweight);

// keys[t] = ids[t], or V where the id is outside [0, V) or is `padding` (-1: none). Half as wide
// as the ids, so that their sort is twice as fast. REQUIRES: V < 2^31.
Error EmbeddingKeys(const Queue& queue, int64_t T, int64_t V, int64_t padding, const int64_t* ids,
                    int32_t* keys);

// dweight [V, H]: row v is the sum of dy [T, H] over the positions of key v, in the order in which
// `order` has them. sorted [T] are the keys in ascending order, order [T] the positions they came
// from; `starts` [V + 1] is scratch.
Error EmbeddingBackward(const Queue& queue, Dtype dtype, int64_t T, int64_t V, int64_t H,
                        const void* dy, const int32_t* sorted, const int64_t* order,
                        int64_t* starts, void* dweight);

}  // namespace liger::kernels::cuda

#endif  // LIGER_KERNELS_EMBEDDING_EMBEDDING_LAUNCH_H_
