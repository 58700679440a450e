#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/attention/backends.h"
#include "kernels/common/autograd.h"
#include "kernels/kept_results.h"

namespace liger::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

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

namespace {

class FlashFunction : public torch::autograd::Function<FlashFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& query_QNH,
                            const at::Tensor& key_TKH, const at::Tensor& value_TKH,
                            const AttentionSpans& spans, const AttentionOptions& options) {
    const at::AutoDispatchBelowADInplaceOrView guard;
    const at::Tensor query_starts =
        CuSeqlens(spans.query_cu_seqlens, spans.query_offsets, query_QNH);
    const at::Tensor key_starts = CuSeqlens(spans.key_cu_seqlens, spans.key_offsets, query_QNH);
    const tensor_list made = KeptResults::Of("attention_flash", [&] {
      const auto result = at::_flash_attention_forward_symint(
          query_QNH, key_TKH, value_TKH, query_starts, key_starts, spans.max_queries(),
          spans.max_keys(), /*dropout_p=*/0.0, /*is_causal=*/true, /*return_debug_mask=*/false,
          options.scale, Before(options.window), After(options.window));
      return tensor_list{std::get<0>(result), std::get<1>(result), std::get<2>(result),
                         std::get<3>(result)};
    });
    tensor_list saved = {query_QNH, key_TKH, value_TKH, query_starts, key_starts};
    saved.insert(saved.end(), made.begin(), made.end());
    ctx->save_for_backward(saved);
    ctx->saved_data["max_queries"] = spans.max_queries();
    ctx->saved_data["max_keys"] = spans.max_keys();
    ctx->saved_data["scale"] = options.scale;
    ctx->saved_data["window"] = options.window;
    return made[0];
  }

  static tensor_list backward(AutogradContext* ctx, const tensor_list& grads) {
    CheckFirstDerivative(kAttention);
    const tensor_list saved = ctx->get_saved_variables();
    auto& data = ctx->saved_data;
    const int64_t window = data["window"].toInt();
    const auto [grad_query, grad_key, grad_value] = at::_flash_attention_backward_symint(
        WithAlignedHeads(grads[0]), saved[0], saved[1], saved[2], saved[5], saved[6], saved[3],
        saved[4], data["max_queries"].toInt(), data["max_keys"].toInt(), /*dropout_p=*/0.0,
        /*is_causal=*/true, saved[7], saved[8], data["scale"].toDouble(), Before(window),
        After(window));
    return {grad_query, grad_key, grad_value, at::Tensor(), at::Tensor()};
  }

 private:
  // Tokens that a query sees before it, which the kernel counts without itself, and after.
  static std::optional<c10::SymInt> Before(int64_t window) {
    return window > 0 ? std::optional<c10::SymInt>(window - 1) : std::nullopt;
  }
  static std::optional<c10::SymInt> After(int64_t window) {
    return window > 0 ? std::optional<c10::SymInt>(0) : std::nullopt;
  }
};

}  // namespace

at::Tensor FlashAttention(const AttentionCall& call) {
  return FlashFunction::apply(WithAlignedHeads(call.query_QNH), WithAlignedHeads(call.key_TKH),
                              WithAlignedHeads(call.value_TKH), call.spans, call.options);
}

}  // namespace liger::kernels
