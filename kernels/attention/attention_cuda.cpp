#include <ATen/ATen.h>
#include <ATen/Context.h>

#include "kernels/attention/backends.h"

namespace liger::kernels {
namespace {

bool IsHalf(const at::Tensor& t) {
  return t.scalar_type() == at::kBFloat16 || t.scalar_type() == at::kHalf;
}

}  // namespace

at::Tensor CuSeqlens(const at::Tensor& given, const std::vector<int64_t>& offsets,
                     const at::Tensor& like) {
  if (given.defined()) return given;
  return at::tensor(offsets, at::kInt).to(like.device(), /*non_blocking=*/true);
}

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

}  // namespace liger::kernels
