#include "worker/trainer/models/attention.h"

#include <numeric>

namespace liger::trainer {
namespace {

// Beside causal_lm.h's legend: W places of a group, n = N / W and k query and key heads of each.

kernels::AttentionSpans SpansOf(const SequenceLayout& sequences) {
  const SharedPrefixes* shared = sequences.shared.get();
  return {shared ? shared->own_offsets_S1 : sequences.offsets_S1, sequences.offsets_S1,
          shared ? shared->own_cu_seqlens_S1 : sequences.cu_seqlens_S1, sequences.cu_seqlens_S1};
}

// [U, K, H] to [W, U, k, H], k W a multiple of K: those that the query heads of each place use.
at::Tensor HeadsOfPlaces(const at::Tensor& x_UKH, int64_t places) {
  const int64_t copies = places / std::gcd(places, x_UKH.size(1));
  const at::Tensor repeated = copies == 1 ? x_UKH : x_UKH.repeat_interleave(copies, /*dim=*/1);
  return repeated.unflatten(1, {places, -1}).transpose(0, 1);
}

at::Tensor GroupAttention(const at::Tensor& query_UNH, const at::Tensor& key_UKH,
                          const at::Tensor& value_UKH, const SequenceLayout& sequences,
                          const AttentionOptions& options) {
  const SequenceGroup& group = *sequences.group;
  const int64_t places = group.size();
  TORCH_CHECK(query_UNH.size(1) % places == 0, "a group of ", places, " cannot share ",
              query_UNH.size(1), " query heads");
  const at::Tensor query_WUnH = HeadsOfPlaces(query_UNH, places);
  const at::Tensor key_WUkH = HeadsOfPlaces(key_UKH, places);
  // One exchange; what is sent is let go of with it. Places come in the order of their tokens.
  const at::Tensor own_ThH =
      group.Exchange(at::cat({query_WUnH, key_WUkH, HeadsOfPlaces(value_UKH, places)}, 2))
          .flatten(0, 1);
  const int64_t n = query_WUnH.size(2), k = key_WUkH.size(2);
  const auto parts = own_ThH.split_with_sizes({n, k, k}, 1);
  const at::Tensor out_TnH =
      kernels::Attention(parts[0], parts[1], parts[2], SpansOf(sequences), options);
  const at::Tensor out_WUnH = group.Exchange(out_TnH.unflatten(0, {places, -1}));
  return out_WUnH.transpose(0, 1).flatten(1, 2);
}

}  // namespace

at::Tensor CausalAttention(const at::Tensor& query_UNH, const at::Tensor& key_UKH,
                           const at::Tensor& value_UKH, const SequenceLayout& sequences,
                           const AttentionOptions& options) {
  if (sequences.group) {
    return GroupAttention(query_UNH, key_UKH, value_UKH, sequences, options);
  }
  const SharedPrefixes* shared = sequences.shared.get();
  const auto all = [&](const at::Tensor& x_U) { return shared ? ToAllTokens(x_U, *shared) : x_U; };
  return kernels::Attention(query_UNH, all(key_UKH), all(value_UKH), SpansOf(sequences), options);
}

at::Tensor CachedAttention(const at::Tensor& query_TNH, const at::Tensor& key_CKH,
                           const at::Tensor& value_CKH, const AttentionOptions& options) {
  const kernels::AttentionSpans spans = {{0, query_TNH.size(0)}, {0, key_CKH.size(0)}, {}, {}};
  return kernels::Attention(query_TNH, key_CKH, value_CKH, spans, options);
}

}  // namespace liger::trainer
