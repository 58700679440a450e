#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/attention/backends.h"
#include "kernels/common/autograd.h"

namespace liger::kernels {
namespace {

bool IsHalf(const at::Tensor& t) {
  return t.scalar_type() == at::kBFloat16 || t.scalar_type() == at::kHalf;
}

at::Tensor MakeCuSeqlens(const at::Tensor& like, at::IntArrayRef offsets) {
  TORCH_CHECK(offsets.empty() || offsets.back() <= std::numeric_limits<int32_t>::max(), kAttention,
              ": offsets end at ", offsets.back(), ", but a GPU's kernels count tokens in int32");
  // From pinned memory: the host would wait for a copy of more than 64 KiB from any other.
  at::Tensor cu = at::empty({static_cast<int64_t>(offsets.size())},
                            at::TensorOptions(at::kInt).pinned_memory(like.is_cuda()));
  std::ranges::transform(offsets, cu.mutable_data_ptr<int32_t>(),
                         [](int64_t offset) { return static_cast<int32_t>(offset); });
  return cu.to(like.device(), /*non_blocking=*/true);
}

at::Tensor MakeCuSeqlensMeta(const at::Tensor& like, at::IntArrayRef offsets) {
  return at::empty({static_cast<int64_t>(offsets.size())}, like.options().dtype(at::kInt));
}

// Numbers from the host: no op of PyTorch's that also takes fake tensors makes them.
TORCH_LIBRARY_FRAGMENT(liger, m) {
  m.def("attention_cu_seqlens(Tensor like, int[] offsets) -> Tensor");
}
TORCH_LIBRARY_IMPL(liger, CompositeExplicitAutograd, m) {
  m.impl("attention_cu_seqlens", MakeCuSeqlens);
}
TORCH_LIBRARY_IMPL(liger, Meta, m) { m.impl("attention_cu_seqlens", MakeCuSeqlensMeta); }

constexpr int64_t kBoundary = 16;  // bytes

// A fake tensor has no address; the storage of any that PyTorch makes begins at a boundary.
bool BeginsAtBoundary(const at::Tensor& x) {
  constexpr c10::DispatchKeySet kFake({c10::DispatchKey::Python, c10::DispatchKey::Functionalize});
  if (x.is_meta() || x.key_set().has_any(kFake)) {
    return x.sym_storage_offset() * x.element_size() % kBoundary == 0;
  }
  return reinterpret_cast<uintptr_t>(x.const_data_ptr()) % kBoundary == 0;
}

}  // namespace

at::Tensor WithAlignedHeads(const at::Tensor& x_TNH) {
  const auto is_aligned = [&](const c10::SymInt& stride) {
    return stride * x_TNH.element_size() % kBoundary == 0;
  };
  const bool fits = x_TNH.sym_stride(2) == 1 && is_aligned(x_TNH.sym_stride(0)) &&
                    is_aligned(x_TNH.sym_stride(1)) && BeginsAtBoundary(x_TNH);
  return fits ? x_TNH : x_TNH.clone(at::MemoryFormat::Contiguous);
}

at::Tensor WithAlignedGradient(at::Tensor out_QNH) {
  if (out_QNH.requires_grad()) {
    out_QNH.register_hook([](const at::Tensor& grad_QNH) {
      return grad_QNH.defined() ? WithAlignedHeads(grad_QNH) : grad_QNH;
    });
  }
  return out_QNH;
}

at::Tensor CuSeqlens(const at::Tensor& given, const std::vector<int64_t>& offsets,
                     const at::Tensor& like) {
  if (given.defined()) return given;
  static const auto op = FindOp<decltype(MakeCuSeqlens)>("liger::attention_cu_seqlens");
  return op.call(like, offsets);
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
  return WithAlignedGradient(std::get<0>(at::_flash_attention_forward_symint(
      WithAlignedHeads(call.query_QNH), WithAlignedHeads(call.key_TKH),
      WithAlignedHeads(call.value_TKH),
      CuSeqlens(spans.query_cu_seqlens, spans.query_offsets, call.query_QNH),
      CuSeqlens(spans.key_cu_seqlens, spans.key_offsets, call.query_QNH), spans.max_queries(),
      spans.max_keys(), /*dropout_p=*/0.0, /*is_causal=*/true, /*return_debug_mask=*/false,
      call.options.scale, before, after)));
}

}  // namespace liger::kernels
