#ifndef LIGER_WORKER_TRAINER_MODELS_ATTENTION_H_
#define LIGER_WORKER_TRAINER_MODELS_ATTENTION_H_

#include "worker/trainer/models/causal_lm.h"

namespace liger::trainer {

struct AttentionOptions {
  double scale = 0;    // of the scores; 1 / sqrt(H) in most families
  int64_t window = 0;  // tokens that a token sees, itself included; 0: all before it
  double softcap = 0;  // scores become softcap * tanh(scores / softcap); 0: no cap
};

// softmax(cap(scale q k^T) + mask) v within each sequence of the layout; no token
// sees another sequence, or one after it. Query head n uses key/value head
// n / (N / K) (Ainslie et al. 2023, arXiv:2305.13245). The scores never exist as a
// whole: on the CPU each sequence goes through PyTorch's flash kernel, on a GPU
// bf16 and fp16 go through FlashAttention-2 with cu_seqlens (Dao 2023,
// arXiv:2307.08691) and fp32 through the memory-efficient kernel a sequence at a
// time; scores with a softcap, and windows in fp32 on a GPU, are plain operations
// over 256 queries at a time. at::globalContext().deterministicAlgorithms() is
// obeyed. A sequence whose prefix is shared sees the keys and values computed for
// it elsewhere.
//
// query_UNH [U, N, H], key_UKH and value_UKH [U, K, H] of the computed tokens
// (U = T unless sequences.shared), one floating dtype, last dimension
// contiguous. Returns [U, N, H], contiguous.
at::Tensor CausalAttention(const at::Tensor& query_UNH, const at::Tensor& key_UKH,
                           const at::Tensor& value_UKH, const SequenceLayout& sequences,
                           const AttentionOptions& options);

// The same for the newest T tokens of one sequence of C, whose keys and values
// are all given. Without gradients; T is 1 or C.
at::Tensor CachedAttention(const at::Tensor& query_TNH, const at::Tensor& key_CKH,
                           const at::Tensor& value_CKH, const AttentionOptions& options);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_MODELS_ATTENTION_H_
