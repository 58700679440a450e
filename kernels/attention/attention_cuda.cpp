#include <ATen/ATen.h>
#include <ATen/Context.h>

#include "kernels/attention/backends.h"

namespace liger::kernels {
namespace {

bool IsHalf(const at::Tensor& t) {
  return t.scalar_type() == at::kBFloat16 || t.scalar_type() == at::kHalf;
}

// int32 offsets on the device of `like`.
at::Tensor CuSeqlens(const at::Tensor& given, const std::vector<int64_t>& offsets,
                     const at::Tensor& like) {
  if (given.defined()) return given;
  return at::tensor(offsets, at::kInt).to(like.device());
}

// For kernels that want as many key heads as queries.
at::Tensor RepeatHeads(const at::Tensor& x_TKH, int64_t num_heads) {
  const int64_t repeats = num_heads / x_TKH.size(1);
  return repeats == 1 ? x_TKH : x_TKH.repeat_interleave(repeats, 1);
}

}  // namespace

bool FlashTakes(const AttentionCall& call) {
  const int64_t head_dim = call.query_QNH.size(2);
  return call.query_QNH.is_cuda() && IsHalf(call.query_QNH) && call.options.softcap == 0 &&
         head_dim % 8 == 0 && head_dim <= 256;
}

at::Tensor FlashAttention(const AttentionCall& call) {
  // The kernel counts the tokens before a query, without itself.
  const int64_t window = call.options.window;
  const auto before = window > 0 ? std::optional<c10::SymInt>(window - 1) : std::nullopt;
  const auto after = window > 0 ? std::optional<c10::SymInt>(0) : std::nullopt;
  const AttentionSpans& spans = call.spans;
  return std::get<0>(at::_flash_attention_forward_symint(
      call.query_QNH, call.key_TKH, call.value_TKH,
      CuSeqlens(spans.query_cu_seqlens, spans.query_offsets, call.query_QNH),
      CuSeqlens(spans.key_cu_seqlens, spans.key_offsets, call.query_QNH), spans.max_queries(),
      spans.max_keys(), /*dropout_p=*/0.0, /*is_causal=*/true, /*return_debug_mask=*/false,
      call.options.scale, before, after));
}

bool MemoryEfficientTakes(const AttentionCall& call) {
  // Its backward pass sums in no fixed order.
  return call.query_QNH.is_cuda() && call.query_QNH.scalar_type() == at::kFloat &&
         call.options.window == 0 && call.options.softcap == 0 && call.query_QNH.size(2) % 4 == 0 &&
         !at::globalContext().deterministicAlgorithms();
}

at::Tensor MemoryEfficientAttention(const AttentionCall& call) {
  constexpr int64_t kCausalFromBottomRight = 2;
  const AttentionSpans& spans = call.spans;
  const int64_t num_heads = call.query_QNH.size(1);
  const at::Tensor out = std::get<0>(at::_efficient_attention_forward(
      call.query_QNH.unsqueeze(0), RepeatHeads(call.key_TKH, num_heads).unsqueeze(0),
      RepeatHeads(call.value_TKH, num_heads).unsqueeze(0), /*bias=*/{},
      CuSeqlens(spans.query_cu_seqlens, spans.query_offsets, call.query_QNH),
      CuSeqlens(spans.key_cu_seqlens, spans.key_offsets, call.query_QNH), spans.max_queries(),
      spans.max_keys(), /*dropout_p=*/0.0, kCausalFromBottomRight,
      /*compute_log_sumexp=*/true, call.options.scale));
  return out.squeeze(0).contiguous();
}

}  // namespace liger::kernels
