#include "worker/trainer/models/attention.h"

#include <cmath>

namespace liger::trainer {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

// Tokens [begin, end) as the [1, heads, L, H] that PyTorch's attention takes.
at::Tensor Slice(const at::Tensor& x_TNH, int64_t begin, int64_t end) {
  return x_TNH.slice(0, begin, end).transpose(0, 1).unsqueeze(0);
}

// Where the tokens of each sequence lie: all of them in offsets, those that it
// computes itself (the queries) in own_offsets. computed_T: which computed token
// serves each; undefined when every sequence computes all of its own.
struct Spans {
  std::vector<int64_t> offsets, own_offsets;
  at::Tensor computed_T;

  explicit Spans(const SequenceLayout& layout)
      : offsets(layout.offsets_S1),
        own_offsets(layout.shared ? layout.shared->own_offsets_S1 : layout.offsets_S1),
        computed_T(layout.shared ? layout.shared->computed_T : at::Tensor()) {}
  Spans(const AutogradContext& ctx, at::Tensor computed_T)
      : offsets(ctx.saved_data.at("offsets").toIntVector()),
        own_offsets(ctx.saved_data.at("own_offsets").toIntVector()),
        computed_T(std::move(computed_T)) {}
  void Save(AutogradContext& ctx) const {
    ctx.saved_data["offsets"] = offsets;
    ctx.saved_data["own_offsets"] = own_offsets;
  }

  size_t size() const { return offsets.size() - 1; }
  int64_t Length(size_t s) const { return offsets[s + 1] - offsets[s]; }
  int64_t Prefix(size_t s) const { return Length(s) - (own_offsets[s + 1] - own_offsets[s]); }
  at::Tensor Own(const at::Tensor& x_UNH, size_t s) const {
    return x_UNH.slice(0, own_offsets[s], own_offsets[s + 1]);
  }
  at::Tensor PrefixIndex(size_t s) const {
    return computed_T.slice(0, offsets[s], offsets[s] + Prefix(s));
  }
  // All tokens of sequence s as the [1, heads, L, H] that PyTorch's attention takes.
  at::Tensor All(const at::Tensor& x_UNH, size_t s) const {
    if (Prefix(s) == 0) return Slice(x_UNH, own_offsets[s], own_offsets[s + 1]);
    const at::Tensor index_L = computed_T.slice(0, offsets[s], offsets[s + 1]);
    return Slice(x_UNH.index_select(0, index_L), 0, Length(s));
  }
};

// [1, heads, L, H] back to [L, heads, H].
at::Tensor Tokens(const at::Tensor& x) { return x.squeeze(0).transpose(0, 1); }

// One flash call a sequence. As one autograd node, so that U tokens are written
// in place instead of being concatenated from S graph branches. A sequence that
// shares its prefix asks the prefix's queries once more (the kernel has no other
// mask) and drops the answers.
class CpuAttention : public torch::autograd::Function<CpuAttention> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& query_UNH,
                            const at::Tensor& key_UKH, const at::Tensor& value_UKH,
                            const SequenceLayout& layout) {
    const Spans spans(layout);
    at::Tensor out_UNH = at::empty(query_UNH.sizes(), query_UNH.options());
    tensor_list saved = {query_UNH, key_UKH, value_UKH, out_UNH, spans.computed_T};
    for (size_t s = 0; s < spans.size(); ++s) {
      if (spans.Length(s) == 0) continue;
      auto [out, logsumexp] = at::_scaled_dot_product_flash_attention_for_cpu(
          spans.All(query_UNH, s), spans.All(key_UKH, s), spans.All(value_UKH, s),
          /*dropout_p=*/0.0, /*is_causal=*/true);
      spans.Own(out_UNH, s).copy_(Tokens(out).slice(0, spans.Prefix(s)));
      saved.push_back(logsumexp);
    }
    ctx->save_for_backward(saved);
    spans.Save(*ctx);
    return out_UNH;
  }

  static tensor_list backward(AutogradContext* ctx, const tensor_list& grads) {
    const tensor_list saved = ctx->get_saved_variables();
    const at::Tensor &query_UNH = saved[0], &key_UKH = saved[1], &value_UKH = saved[2];
    const at::Tensor& out_UNH = saved[3];
    const Spans spans(*ctx, saved[4]);
    auto logsumexp = saved.begin() + 5;
    const at::Tensor grad_out_UNH = grads[0].contiguous();
    at::Tensor grad_query_UNH = at::empty(query_UNH.sizes(), query_UNH.options());
    at::Tensor grad_key_UKH = at::zeros(key_UKH.sizes(), key_UKH.options());
    at::Tensor grad_value_UKH = at::zeros(value_UKH.sizes(), value_UKH.options());
    for (size_t s = 0; s < spans.size(); ++s) {
      if (spans.Length(s) == 0) continue;
      auto [grad_query, grad_key, grad_value] =
          at::_scaled_dot_product_flash_attention_for_cpu_backward(
              GradOut(grad_out_UNH, spans, s), spans.All(query_UNH, s), spans.All(key_UKH, s),
              spans.All(value_UKH, s), spans.All(out_UNH, s), *logsumexp++, /*dropout_p=*/0.0,
              /*is_causal=*/true);
      spans.Own(grad_query_UNH, s).copy_(Tokens(grad_query).slice(0, spans.Prefix(s)));
      Add(Tokens(grad_key), spans, s, grad_key_UKH);
      Add(Tokens(grad_value), spans, s, grad_value_UKH);
    }
    return {grad_query_UNH, grad_key_UKH, grad_value_UKH, at::Tensor()};
  }

 private:
  // Nothing comes back through the answers that were dropped.
  static at::Tensor GradOut(const at::Tensor& grad_UNH, const Spans& spans, size_t s) {
    const at::Tensor own = spans.Own(grad_UNH, s);
    const at::Tensor all =
        spans.Prefix(s) == 0 ? own : at::constant_pad_nd(own, {0, 0, 0, 0, spans.Prefix(s), 0});
    return Slice(all, 0, spans.Length(s));
  }

  // Adds a sequence's gradient to that of the tokens that serve it.
  static void Add(const at::Tensor& grad, const Spans& spans, size_t s, at::Tensor& sum_UKH) {
    const int64_t prefix = spans.Prefix(s);
    spans.Own(sum_UKH, s).add_(grad.slice(0, prefix));
    if (prefix > 0) sum_UKH.index_add_(0, spans.PrefixIndex(s), grad.slice(0, 0, prefix));
  }
};

// [.., K, H] to [.., N, H], for kernels that want as many key heads as queries.
at::Tensor RepeatHeads(const at::Tensor& x_TKH, int64_t num_heads) {
  const int64_t repeats = num_heads / x_TKH.size(1);
  return repeats == 1 ? x_TKH : x_TKH.repeat_interleave(repeats, 1);
}

at::Tensor PerSequenceAttention(const at::Tensor& query_TNH, const at::Tensor& key_TKH,
                                const at::Tensor& value_TKH, const std::vector<int64_t>& offsets) {
  const at::Tensor key_TNH = RepeatHeads(key_TKH, query_TNH.size(1));
  const at::Tensor value_TNH = RepeatHeads(value_TKH, query_TNH.size(1));
  std::vector<at::Tensor> outs;
  for (size_t s = 0; s + 1 < offsets.size(); ++s) {
    const int64_t begin = offsets[s], end = offsets[s + 1];
    if (begin == end) continue;
    const at::Tensor out = at::scaled_dot_product_attention(
        Slice(query_TNH, begin, end), Slice(key_TNH, begin, end), Slice(value_TNH, begin, end),
        /*attn_mask=*/{}, /*dropout_p=*/0.0, /*is_causal=*/true);
    outs.push_back(out.squeeze(0).transpose(0, 1));
  }
  return outs.empty() ? at::empty_like(query_TNH) : at::cat(outs);
}

// Queries that share their prefix's keys are fewer than the keys; the causal
// mask is aligned to the last of both.
at::Tensor CudaFlashAttention(const at::Tensor& query_UNH, const at::Tensor& key_TKH,
                              const at::Tensor& value_TKH, const SequenceLayout& sequences) {
  const SharedPrefixes* shared = sequences.shared.get();
  return std::get<0>(at::_flash_attention_forward(
      query_UNH, key_TKH, value_TKH, shared ? shared->own_cu_seqlens_S1 : sequences.cu_seqlens_S1,
      sequences.cu_seqlens_S1, shared ? shared->max_own : sequences.max_seqlen,
      sequences.max_seqlen, /*dropout_p=*/0.0, /*is_causal=*/true, /*return_debug_mask=*/false));
}

// What torch's FlashAttention-2 takes.
bool FlashTakes(const at::Tensor& query_TNH) {
  const bool half =
      query_TNH.scalar_type() == at::kBFloat16 || query_TNH.scalar_type() == at::kHalf;
  return half && query_TNH.size(2) % 8 == 0 && query_TNH.size(2) <= 256;
}

}  // namespace

at::Tensor CausalAttention(const at::Tensor& query_UNH, const at::Tensor& key_UKH,
                           const at::Tensor& value_UKH, const SequenceLayout& sequences) {
  TORCH_CHECK(query_UNH.size(0) == sequences.num_computed(), "attention over ", query_UNH.size(0),
              " tokens with a layout of ", sequences.num_computed());
  if (query_UNH.is_cpu()) {
    return CpuAttention::apply(query_UNH, key_UKH, value_UKH, sequences);
  }
  const auto all = [&](const at::Tensor& x_U) {
    return sequences.shared ? ToAllTokens(x_U, *sequences.shared) : x_U;
  };
  const at::Tensor key_TKH = all(key_UKH), value_TKH = all(value_UKH);
  if (FlashTakes(query_UNH)) return CudaFlashAttention(query_UNH, key_TKH, value_TKH, sequences);
  const at::Tensor out_TNH =
      PerSequenceAttention(all(query_UNH), key_TKH, value_TKH, sequences.offsets_S1);
  return sequences.shared ? out_TNH.index_select(0, sequences.shared->owner_U) : out_TNH;
}

at::Tensor CachedAttention(const at::Tensor& query_TNH, const at::Tensor& key_CKH,
                           const at::Tensor& value_CKH) {
  const int64_t num_new = query_TNH.size(0), num_cached = key_CKH.size(0);
  TORCH_CHECK(num_new == 1 || num_new == num_cached,
              "decoding takes the whole prompt or one token at a time, got ", num_new, " of ",
              num_cached);
  const int64_t num_heads = query_TNH.size(1);
  const at::Tensor out = at::scaled_dot_product_attention(
      Slice(query_TNH, 0, num_new), Slice(RepeatHeads(key_CKH, num_heads), 0, num_cached),
      Slice(RepeatHeads(value_CKH, num_heads), 0, num_cached), /*attn_mask=*/{}, /*dropout_p=*/0.0,
      /*is_causal=*/num_new > 1);
  return out.squeeze(0).transpose(0, 1).contiguous();
}

}  // namespace liger::trainer
