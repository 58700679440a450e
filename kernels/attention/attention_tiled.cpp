#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>

#include "kernels/attention/backends.h"
#include "kernels/attention/tiled_launch.h"
#include "kernels/common/autograd.h"
#include "kernels/common/check.h"
#include "kernels/common/cuda.h"
#include "kernels/common/record.h"
#include "kernels/kept_results.h"

namespace liger::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;
using Pair = std::tuple<at::Tensor, at::Tensor>;
using Triple = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

// Arguments of the ops beside the tensors.
struct Layout {
  int64_t max_queries, max_keys;
  double scale;
  int64_t window;
  double softcap;
};

void CheckStarts(const char* name, const at::Tensor& starts, const Arg& query) {
  const Arg arg{kAttention, name, starts};
  CheckDim(arg, 1);
  CheckNotEmpty(arg, 0);
  CheckDtype(arg, at::kInt);
  CheckSameDevice(arg, query);
  CheckContiguous(arg);
}

// Of the ops, which others than Function may call: all but the values of the starts, which are on
// the device.
void Check(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
           const at::Tensor& query_starts, const at::Tensor& key_starts, const Layout& layout) {
  CheckHeads(query, key, value);
  TORCH_CHECK_VALUE(layout.max_queries >= 0 && layout.max_keys >= 0, kAttention,
                    ": max_queries is ", layout.max_queries, ", max_keys ", layout.max_keys);
  CheckOptions({layout.scale, layout.window, layout.softcap});
  const Arg query_arg{kAttention, "query", query};
  CheckStarts("query_starts", query_starts, query_arg);
  CheckStarts("key_starts", key_starts, query_arg);
  CheckShape({kAttention, "key_starts", key_starts}, query_starts.sym_sizes(),
             "query_starts' shape");
}

at::Tensor EmptyLike(const at::Tensor& x) { return at::empty_symint(x.sym_sizes(), x.options()); }
// Two numbers a row of scores, see TiledAttentionForward.
at::Tensor EmptyStats(const at::Tensor& query_QNH) {
  return at::empty_symint({query_QNH.sym_size(1), query_QNH.sym_size(0), 2},
                          query_QNH.options().dtype(at::kFloat));
}

cuda::HeadsView ViewOf(const at::Tensor& x_TNH) {
  return {x_TNH.const_data_ptr(), x_TNH.stride(0), x_TNH.stride(1)};
}

// What the kernels take, which hold on to nothing.
struct Operands {
  at::Tensor query_QNH, key_TKH, value_TKH;

  Operands(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value)
      : query_QNH(WithAlignedHeads(query)),
        key_TKH(WithAlignedHeads(key)),
        value_TKH(WithAlignedHeads(value)) {}

  cuda::TiledCall Call(const at::Tensor& query_starts, const at::Tensor& key_starts,
                       const Layout& layout) const {
    return {.dtype = cuda::DtypeOf(query_QNH),
            .queries = query_QNH.size(0),
            .sequences = query_starts.size(0) - 1,
            .max_queries = layout.max_queries,
            .max_keys = layout.max_keys,
            .heads = static_cast<int>(query_QNH.size(1)),
            .key_heads = static_cast<int>(key_TKH.size(1)),
            .head_dim = static_cast<int>(query_QNH.size(2)),
            .window = static_cast<int>(
                std::min<int64_t>(layout.window, std::numeric_limits<int32_t>::max() / 2)),
            .scale = static_cast<float>(layout.scale),
            .softcap = static_cast<float>(layout.softcap),
            .query_starts = query_starts.const_data_ptr<int32_t>(),
            .key_starts = key_starts.const_data_ptr<int32_t>(),
            .query = ViewOf(query_QNH),
            .key = ViewOf(key_TKH),
            .value = ViewOf(value_TKH)};
  }
};

bool HasKernels(const at::Tensor& query) {
  if constexpr (kHasCuda) {
    if (!HasCudaKernels(query)) return false;
    const cuda::Scope scope(query);
    return cuda::HasTiledAttention(cuda::DtypeOf(query), query.size(2));
  }
  return false;
}

void CheckKernels(const at::Tensor& query) {
  TORCH_CHECK(HasKernels(query), kAttention, ": backend 'tiled' takes no query of shape ",
              query.sizes(), ", ", query.scalar_type(), " on ", query.device());
}

Pair ForwardMeta(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                 const at::Tensor& query_starts, const at::Tensor& key_starts, int64_t max_queries,
                 int64_t max_keys, double scale, int64_t window, double softcap) {
  Check(query, key, value, query_starts, key_starts,
        {max_queries, max_keys, scale, window, softcap});
  return {EmptyLike(query), EmptyStats(query)};
}

Pair Forward(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
             const at::Tensor& query_starts, const at::Tensor& key_starts, int64_t max_queries,
             int64_t max_keys, double scale, int64_t window, double softcap) {
  const Layout layout{max_queries, max_keys, scale, window, softcap};
  Check(query, key, value, query_starts, key_starts, layout);
  CheckKernels(query);
  at::Tensor out_QNH = EmptyLike(query), stats_NQ2 = EmptyStats(query);
  if constexpr (kHasCuda) {
    const cuda::Scope scope(query);
    const Operands operands(query, key, value);
    cuda::CheckLaunch(kAttention,
                      cuda::TiledAttentionForward(
                          scope.queue(), operands.Call(query_starts, key_starts, layout),
                          out_QNH.mutable_data_ptr(), stats_NQ2.mutable_data_ptr<float>()));
  }
  return {out_QNH, stats_NQ2};
}

void CheckSaved(const at::Tensor& grad, const at::Tensor& query, const at::Tensor& out,
                const at::Tensor& stats) {
  CheckBackward(grad, query, out, stats, {query.sym_size(1), query.sym_size(0), 2}, "[N, Q, 2]");
}

Triple BackwardMeta(const at::Tensor& grad, const at::Tensor& query, const at::Tensor& key,
                    const at::Tensor& value, const at::Tensor& out, const at::Tensor& stats,
                    const at::Tensor& query_starts, const at::Tensor& key_starts,
                    int64_t max_queries, int64_t max_keys, double scale, int64_t window,
                    double softcap) {
  Check(query, key, value, query_starts, key_starts,
        {max_queries, max_keys, scale, window, softcap});
  CheckSaved(grad, query, out, stats);
  return {EmptyLike(query), EmptyLike(key), EmptyLike(value)};
}

Triple Backward(const at::Tensor& grad, const at::Tensor& query, const at::Tensor& key,
                const at::Tensor& value, const at::Tensor& out, const at::Tensor& stats,
                const at::Tensor& query_starts, const at::Tensor& key_starts, int64_t max_queries,
                int64_t max_keys, double scale, int64_t window, double softcap) {
  const Layout layout{max_queries, max_keys, scale, window, softcap};
  Check(query, key, value, query_starts, key_starts, layout);
  CheckSaved(grad, query, out, stats);
  CheckKernels(query);
  at::Tensor grad_query = EmptyLike(query), grad_key = EmptyLike(key);
  at::Tensor grad_value = EmptyLike(value);
  if constexpr (kHasCuda) {
    const cuda::Scope scope(query);
    const Operands operands(query, key, value);
    const at::Tensor grad_QNH = WithAlignedHeads(grad), out_QNH = WithAlignedHeads(out);
    const at::Tensor delta_NQ =
        at::empty({query.size(1), query.size(0)}, query.options().dtype(at::kFloat));
    cuda::CheckLaunch(
        kAttention,
        cuda::TiledAttentionBackward(
            scope.queue(), operands.Call(query_starts, key_starts, layout),
            grad_QNH.const_data_ptr(), out_QNH.const_data_ptr(), stats.const_data_ptr<float>(),
            delta_NQ.mutable_data_ptr<float>(), grad_query.mutable_data_ptr(),
            grad_key.mutable_data_ptr(), grad_value.mutable_data_ptr()));
  }
  return {grad_query, grad_key, grad_value};
}

// Starts beyond the tokens are read as they are, and rows beyond max_queries and max_keys are not
// written: nobody asks the device.
TORCH_LIBRARY_FRAGMENT(liger, m) {
  m.def(
      "attention_tiled_forward(Tensor query, Tensor key, Tensor value, Tensor query_starts, "
      "Tensor key_starts, int max_queries, int max_keys, float scale, int window, float softcap) "
      "-> (Tensor out, Tensor stats)");
  m.def(
      "attention_tiled_backward(Tensor grad, Tensor query, Tensor key, Tensor value, Tensor out, "
      "Tensor stats, Tensor query_starts, Tensor key_starts, int max_queries, int max_keys, "
      "float scale, int window, float softcap) -> (Tensor, Tensor, Tensor)");
}
TORCH_LIBRARY_IMPL(liger, CompositeExplicitAutograd, m) {
  m.impl("attention_tiled_forward", Forward);
  m.impl("attention_tiled_backward", Backward);
}
TORCH_LIBRARY_IMPL(liger, Meta, m) {
  m.impl("attention_tiled_forward", ForwardMeta);
  m.impl("attention_tiled_backward", BackwardMeta);
}

class Function : public torch::autograd::Function<Function> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& query_QNH,
                            const at::Tensor& key_TKH, const at::Tensor& value_TKH,
                            const AttentionSpans& spans, const AttentionOptions& options) {
    const at::AutoDispatchBelowADInplaceOrView guard;
    const at::Tensor query_starts =
        CuSeqlens(spans.query_cu_seqlens, spans.query_offsets, query_QNH);
    const at::Tensor key_starts =
        spans.query_offsets == spans.key_offsets
            ? query_starts
            : CuSeqlens(spans.key_cu_seqlens, spans.key_offsets, query_QNH);
    static const auto op = FindOp<decltype(Forward)>("liger::attention_tiled_forward");
    const tensor_list made = KeptResults::Of("attention_tiled", [&] {
      const auto [out, stats] =
          op.call(query_QNH, key_TKH, value_TKH, query_starts, key_starts, spans.max_queries(),
                  spans.max_keys(), options.scale, options.window, options.softcap);
      return tensor_list{out, stats};
    });
    const at::Tensor &out_QNH = made[0], &stats_NQ2 = made[1];
    ctx->save_for_backward(
        {query_QNH, key_TKH, value_TKH, out_QNH, stats_NQ2, query_starts, key_starts});
    ctx->saved_data["max_queries"] = spans.max_queries();
    ctx->saved_data["max_keys"] = spans.max_keys();
    ctx->saved_data["scale"] = options.scale;
    ctx->saved_data["window"] = options.window;
    ctx->saved_data["softcap"] = options.softcap;
    return out_QNH;
  }

  static tensor_list backward(AutogradContext* ctx, const tensor_list& grads) {
    CheckFirstDerivative(kAttention);
    const tensor_list saved = ctx->get_saved_variables();
    auto& data = ctx->saved_data;
    static const auto op = FindOp<decltype(Backward)>("liger::attention_tiled_backward");
    const auto [grad_query, grad_key, grad_value] =
        op.call(grads[0].contiguous(), saved[0], saved[1], saved[2], saved[3], saved[4], saved[5],
                saved[6], data["max_queries"].toInt(), data["max_keys"].toInt(),
                data["scale"].toDouble(), data["window"].toInt(), data["softcap"].toDouble());
    return {grad_query, grad_key, grad_value, at::Tensor(), at::Tensor()};
  }
};

}  // namespace

bool TiledTakes(const AttentionCall& call) { return HasKernels(call.query_QNH); }

at::Tensor TiledAttention(const AttentionCall& call) {
  RecordPath(Op::kAttention, Path::kCuda);
  return Function::apply(call.query_QNH, call.key_TKH, call.value_TKH, call.spans, call.options);
}

}  // namespace liger::kernels
