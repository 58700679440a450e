#include "worker/trainer/models/attention.h"

namespace liger::trainer {

at::Tensor CausalAttention(const at::Tensor& query_UNH, const at::Tensor& key_UKH,
                           const at::Tensor& value_UKH, const SequenceLayout& sequences,
                           const AttentionOptions& options) {
  const SharedPrefixes* shared = sequences.shared.get();
  const kernels::AttentionSpans spans = {
      shared ? shared->own_offsets_S1 : sequences.offsets_S1, sequences.offsets_S1,
      shared ? shared->own_cu_seqlens_S1 : sequences.cu_seqlens_S1, sequences.cu_seqlens_S1};
  const auto all = [&](const at::Tensor& x_U) { return shared ? ToAllTokens(x_U, *shared) : x_U; };
  return kernels::Attention(query_UNH, all(key_UKH), all(value_UKH), spans, options);
}

at::Tensor CachedAttention(const at::Tensor& query_TNH, const at::Tensor& key_CKH,
                           const at::Tensor& value_CKH, const AttentionOptions& options) {
  const kernels::AttentionSpans spans = {{0, query_TNH.size(0)}, {0, key_CKH.size(0)}, {}, {}};
  return kernels::Attention(query_TNH, key_CKH, value_CKH, spans, options);
}

}  // namespace liger::trainer
