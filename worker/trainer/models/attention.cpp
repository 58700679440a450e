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

// One flash call a sequence. As one autograd node, so that T tokens are written
// in place instead of being concatenated from S graph branches.
class CpuAttention : public torch::autograd::Function<CpuAttention> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& query_TNH,
                            const at::Tensor& key_TKH, const at::Tensor& value_TKH,
                            const std::vector<int64_t>& offsets) {
    at::Tensor out_TNH = at::empty(query_TNH.sizes(), query_TNH.options());
    tensor_list saved = {query_TNH, key_TKH, value_TKH, out_TNH};
    for (size_t s = 0; s + 1 < offsets.size(); ++s) {
      const int64_t begin = offsets[s], end = offsets[s + 1];
      if (begin == end) continue;
      auto [out, logsumexp] = at::_scaled_dot_product_flash_attention_for_cpu(
          Slice(query_TNH, begin, end), Slice(key_TKH, begin, end), Slice(value_TKH, begin, end),
          /*dropout_p=*/0.0, /*is_causal=*/true);
      Slice(out_TNH, begin, end).copy_(out);
      saved.push_back(logsumexp);
    }
    ctx->save_for_backward(saved);
    ctx->saved_data["offsets"] = offsets;
    return out_TNH;
  }

  static tensor_list backward(AutogradContext* ctx, const tensor_list& grads) {
    const tensor_list saved = ctx->get_saved_variables();
    const at::Tensor &query_TNH = saved[0], &key_TKH = saved[1], &value_TKH = saved[2];
    const at::Tensor& out_TNH = saved[3];
    auto logsumexp = saved.begin() + 4;
    const at::Tensor grad_out_TNH = grads[0].contiguous();
    at::Tensor grad_query_TNH = at::empty(query_TNH.sizes(), query_TNH.options());
    at::Tensor grad_key_TKH = at::empty(key_TKH.sizes(), key_TKH.options());
    at::Tensor grad_value_TKH = at::empty(value_TKH.sizes(), value_TKH.options());
    const auto offsets = ctx->saved_data["offsets"].toIntVector();
    for (size_t s = 0; s + 1 < offsets.size(); ++s) {
      const int64_t begin = offsets[s], end = offsets[s + 1];
      if (begin == end) continue;
      auto [grad_query, grad_key, grad_value] =
          at::_scaled_dot_product_flash_attention_for_cpu_backward(
              Slice(grad_out_TNH, begin, end), Slice(query_TNH, begin, end),
              Slice(key_TKH, begin, end), Slice(value_TKH, begin, end), Slice(out_TNH, begin, end),
              *logsumexp++, /*dropout_p=*/0.0, /*is_causal=*/true);
      Slice(grad_query_TNH, begin, end).copy_(grad_query);
      Slice(grad_key_TKH, begin, end).copy_(grad_key);
      Slice(grad_value_TKH, begin, end).copy_(grad_value);
    }
    return {grad_query_TNH, grad_key_TKH, grad_value_TKH, at::Tensor()};
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

at::Tensor CudaFlashAttention(const at::Tensor& query_TNH, const at::Tensor& key_TKH,
                              const at::Tensor& value_TKH, const SequenceLayout& sequences) {
  return std::get<0>(at::_flash_attention_forward(
      query_TNH, key_TKH, value_TKH, sequences.cu_seqlens_S1, sequences.cu_seqlens_S1,
      sequences.max_seqlen, sequences.max_seqlen, /*dropout_p=*/0.0, /*is_causal=*/true,
      /*return_debug_mask=*/false));
}

// What torch's FlashAttention-2 takes.
bool FlashTakes(const at::Tensor& query_TNH) {
  const bool half =
      query_TNH.scalar_type() == at::kBFloat16 || query_TNH.scalar_type() == at::kHalf;
  return half && query_TNH.size(2) % 8 == 0 && query_TNH.size(2) <= 256;
}

}  // namespace

at::Tensor CausalAttention(const at::Tensor& query_TNH, const at::Tensor& key_TKH,
                           const at::Tensor& value_TKH, const SequenceLayout& sequences) {
  TORCH_CHECK(query_TNH.size(0) == sequences.num_tokens(), "attention over ", query_TNH.size(0),
              " tokens with a layout of ", sequences.num_tokens());
  if (query_TNH.is_cpu()) {
    return CpuAttention::apply(query_TNH, key_TKH, value_TKH, sequences.offsets_S1);
  }
  if (FlashTakes(query_TNH)) return CudaFlashAttention(query_TNH, key_TKH, value_TKH, sequences);
  return PerSequenceAttention(query_TNH, key_TKH, value_TKH, sequences.offsets_S1);
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
