#ifndef LIGER_WORKER_TRAINER_MODELS_ATTENTION_H_
#define LIGER_WORKER_TRAINER_MODELS_ATTENTION_H_

#include "kernels/attention/attention.h"
#include "worker/trainer/models/causal_lm.h"

namespace liger::trainer {

using kernels::AttentionOptions;

// kernels::Attention within each sequence of the layout. A sequence whose prefix is shared
// sees the keys and values computed for it elsewhere.
//
// query_UNH [U, N, H], key_UKH and value_UKH [U, K, H] of the computed tokens
// (U = T unless sequences.shared or .group), one floating dtype, last dimension
// contiguous. Returns [U, N, H], contiguous.
//
// With a group of W, which must divide N: each place attends with N / W of the heads to all T
// tokens, between two exchanges, of which the first takes queries, keys and values at once. Where
// W does not divide K, keys and values are repeated to the next multiple of K that it does, and the
// gradients of the copies are summed.
at::Tensor CausalAttention(const at::Tensor& query_UNH, const at::Tensor& key_UKH,
                           const at::Tensor& value_UKH, const SequenceLayout& sequences,
                           const AttentionOptions& options);

// The same for the newest T tokens of one sequence of C, whose keys and values
// are all given.
at::Tensor CachedAttention(const at::Tensor& query_TNH, const at::Tensor& key_CKH,
                           const at::Tensor& value_CKH, const AttentionOptions& options);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_MODELS_ATTENTION_H_
