#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <limits>
#include <stdexcept>

#include "kernels/attention/backends.h"
#include "kernels/attention/cudnn_plans.h"
#include "kernels/common/autograd.h"
#include "kernels/common/check.h"
#include "kernels/kept_results.h"

namespace liger::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

// Below, FlashAttention-2 is as fast and needs no plans.
constexpr int64_t kLeastLength = 1024;

bool HasOneLength(const AttentionSpans& spans) {
  for (int64_t s = 0; s < spans.size(); ++s) {
    if (spans.num_queries(s) != spans.max_keys() || spans.num_keys(s) != spans.max_keys()) {
      return false;
    }
  }
  return true;
}

int64_t RoundUp(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// What a call's plan depends on beside the shapes; also the arguments of the ops.
struct Layout {
  int64_t longest;   // tokens of the longest sequence
  bool aligns_last;  // see PlanKey
  int64_t window;
  double scale;
};

Layout LayoutOf(const AttentionSpans& spans, const AttentionOptions& options) {
  return {spans.max_keys(), spans.query_offsets != spans.key_offsets, options.window,
          options.scale};
}

// A plan for this many sequences and fewer.
int64_t BatchOf(const AttentionSpans& spans) {
  int64_t batch = 1;
  while (batch < spans.size()) batch *= 2;
  return batch;
}

cudnn::PlanKey KeyOf(const at::Tensor& query_QNH, const at::Tensor& key_TKH, int64_t batch,
                     const Layout& layout, bool is_backward) {
  cudnn::PlanKey key;
  key.device = query_QNH.device().index();
  key.is_bf16 = query_QNH.scalar_type() == at::kBFloat16;
  key.is_backward = is_backward;
  key.aligns_last = layout.aligns_last;
  key.heads = query_QNH.size(1);
  key.key_heads = key_TKH.size(1);
  key.head_dim = query_QNH.size(2);
  key.batch = batch;
  key.length = RoundUp(layout.longest, layout.longest <= 4096 ? 512 : 1024);
  key.total = RoundUp(std::max(query_QNH.size(0), key_TKH.size(0)), 4096);
  key.window = layout.window;
  key.scale = layout.scale;
  return key;
}

// Where sequences begin and how long they are, on the device, as plans take it.
struct Index {
  at::Tensor starts, lengths;  // in tokens, int32 [batch + 1] and [batch]
};

Index MakeIndex(const at::Tensor& given, const std::vector<int64_t>& offsets, int64_t batch,
                const at::Tensor& like) {
  at::Tensor cu = CuSeqlens(given, offsets, like);
  const int64_t missing = batch + 1 - cu.size(0);
  if (missing > 0) cu = at::cat({cu, cu.slice(0, cu.size(0) - 1).expand({missing})});
  return {cu, cu.slice(0, 1) - cu.slice(0, 0, batch)};
}

void Run(const cudnn::PlanKey& key, const Index& queries, const Index& keys,
         cudnn::Pointers pointers) {
  const at::Tensor query_starts = queries.starts * (key.heads * key.head_dim);
  const at::Tensor key_starts = keys.starts * (key.key_heads * key.head_dim);
  const at::Tensor stats_starts = queries.starts * key.heads;
  pointers[cudnn::kQueryStarts] = query_starts.data_ptr();
  pointers[cudnn::kKeyStarts] = key_starts.data_ptr();
  pointers[cudnn::kStatsStarts] = stats_starts.data_ptr();
  pointers[cudnn::kQueryLengths] = queries.lengths.data_ptr();
  pointers[cudnn::kKeyLengths] = keys.lengths.data_ptr();
  const auto& [plan, refusal] = cudnn::PlanFor(key);
  TORCH_CHECK(plan != nullptr, kAttention, ": backend 'cudnn': ", refusal);
  const at::Device device = query_starts.device();
  const at::Tensor workspace =
      at::empty({plan->workspace_bytes()}, at::TensorOptions(device).dtype(at::kByte));
  void* stream = c10::impl::VirtualGuardImpl(device.type()).getStream(device).native_handle();
  try {
    plan->Run(std::move(pointers), workspace.data_ptr(), stream);
  } catch (const std::runtime_error& error) {
    TORCH_CHECK(false, kAttention, ": backend 'cudnn': ", error.what());
  }
}

// Of the ops, which others than Function may call.
void Check(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
           const Index& queries, const Index& keys) {
  CheckHeads(query, key, value);
  const Arg query_arg{kAttention, "query", query};
  for (const Arg& arg : {query_arg, Arg{kAttention, "key", key}, Arg{kAttention, "value", value}}) {
    CheckContiguous(arg);
  }
  TORCH_CHECK(query.scalar_type() == at::kBFloat16 || query.scalar_type() == at::kHalf, kAttention,
              ": backend 'cudnn': query has dtype ", query.scalar_type(),
              ", expected bfloat16 or float16");
  constexpr auto kMost = std::numeric_limits<int32_t>::max();
  TORCH_CHECK(query.sym_numel() <= kMost && key.sym_numel() <= kMost, kAttention,
              ": backend 'cudnn': query has shape ", query.sym_sizes(), ", key ", key.sym_sizes(),
              "; it counts elements in int32");
  const auto batch = queries.lengths.sym_size(0);
  const auto check_index = [&](const char* name, const at::Tensor& index, const c10::SymInt& size) {
    const Arg arg{kAttention, name, index};
    CheckDtype(arg, at::kInt);
    CheckShape(arg, {size}, "[batch] or [batch + 1]");
    CheckSameDevice(arg, query_arg);
    CheckContiguous(arg);
  };
  check_index("query_starts", queries.starts, batch + 1);
  check_index("query_lengths", queries.lengths, batch);
  check_index("key_starts", keys.starts, batch + 1);
  check_index("key_lengths", keys.lengths, batch);
}

using Pair = std::tuple<at::Tensor, at::Tensor>;
using Triple = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

Pair ForwardMeta(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                 const at::Tensor& query_starts, const at::Tensor& query_lengths,
                 const at::Tensor& key_starts, const at::Tensor& key_lengths, int64_t, bool,
                 int64_t, double) {
  Check(query, key, value, {query_starts, query_lengths}, {key_starts, key_lengths});
  return {
      at::empty_symint(query.sym_sizes(), query.options()),
      at::empty_symint({query.sym_size(0), query.sym_size(1)}, query.options().dtype(at::kFloat))};
}

Pair Forward(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
             const at::Tensor& query_starts, const at::Tensor& query_lengths,
             const at::Tensor& key_starts, const at::Tensor& key_lengths, int64_t longest,
             bool aligns_last, int64_t window, double scale) {
  const Index queries{query_starts, query_lengths}, keys{key_starts, key_lengths};
  Check(query, key, value, queries, keys);
  const c10::DeviceGuard guard(query.device());
  const at::Tensor query_QNH = WithAlignedHeads(query), key_TKH = WithAlignedHeads(key);
  const at::Tensor value_TKH = WithAlignedHeads(value);
  const at::Tensor out_QNH = at::empty(query_QNH.sizes(), query_QNH.options());
  const at::Tensor stats_QN =
      at::empty({query_QNH.size(0), query_QNH.size(1)}, query_QNH.options().dtype(at::kFloat));
  const Layout layout{longest, aligns_last, window, scale};
  Run(KeyOf(query_QNH, key_TKH, query_lengths.size(0), layout, /*is_backward=*/false), queries,
      keys,
      {{cudnn::kQuery, query_QNH.data_ptr()},
       {cudnn::kKey, key_TKH.data_ptr()},
       {cudnn::kValue, value_TKH.data_ptr()},
       {cudnn::kOut, out_QNH.data_ptr()},
       {cudnn::kStats, stats_QN.data_ptr()}});
  return {out_QNH, stats_QN};
}

void CheckSaved(const at::Tensor& grad, const at::Tensor& query, const at::Tensor& out,
                const at::Tensor& stats) {
  CheckBackward(grad, query, out, stats, {query.sym_size(0), query.sym_size(1)}, "[Q, N]");
}

Triple BackwardMeta(const at::Tensor& grad, const at::Tensor& query, const at::Tensor& key,
                    const at::Tensor& value, const at::Tensor& out, const at::Tensor& stats,
                    const at::Tensor& query_starts, const at::Tensor& query_lengths,
                    const at::Tensor& key_starts, const at::Tensor& key_lengths, int64_t, bool,
                    int64_t, double) {
  Check(query, key, value, {query_starts, query_lengths}, {key_starts, key_lengths});
  CheckSaved(grad, query, out, stats);
  const auto like = [](const at::Tensor& x) {
    return at::empty_symint(x.sym_sizes(), x.options());
  };
  return {like(query), like(key), like(value)};
}

Triple Backward(const at::Tensor& grad, const at::Tensor& query, const at::Tensor& key,
                const at::Tensor& value, const at::Tensor& out, const at::Tensor& stats_QN,
                const at::Tensor& query_starts, const at::Tensor& query_lengths,
                const at::Tensor& key_starts, const at::Tensor& key_lengths, int64_t longest,
                bool aligns_last, int64_t window, double scale) {
  const Index queries{query_starts, query_lengths}, keys{key_starts, key_lengths};
  Check(query, key, value, queries, keys);
  CheckSaved(grad, query, out, stats_QN);
  const c10::DeviceGuard guard(query.device());
  const at::Tensor query_QNH = WithAlignedHeads(query), key_TKH = WithAlignedHeads(key);
  const at::Tensor value_TKH = WithAlignedHeads(value), out_QNH = WithAlignedHeads(out);
  const at::Tensor grad_QNH = WithAlignedHeads(grad);
  const at::Tensor grad_query = at::empty(query_QNH.sizes(), query_QNH.options());
  at::Tensor grad_key = at::empty(key_TKH.sizes(), key_TKH.options());
  at::Tensor grad_value = at::empty(value_TKH.sizes(), value_TKH.options());
  if (aligns_last) {  // keys that nobody asks for may be left alone
    grad_key.zero_();
    grad_value.zero_();
  }
  const Layout layout{longest, aligns_last, window, scale};
  Run(KeyOf(query_QNH, key_TKH, query_lengths.size(0), layout, /*is_backward=*/true), queries, keys,
      {{cudnn::kQuery, query_QNH.data_ptr()},
       {cudnn::kKey, key_TKH.data_ptr()},
       {cudnn::kValue, value_TKH.data_ptr()},
       {cudnn::kOut, out_QNH.data_ptr()},
       {cudnn::kStats, stats_QN.data_ptr()},
       {cudnn::kGradOut, grad_QNH.data_ptr()},
       {cudnn::kGradQuery, grad_query.data_ptr()},
       {cudnn::kGradKey, grad_key.data_ptr()},
       {cudnn::kGradValue, grad_value.data_ptr()}});
  return {grad_query, grad_key, grad_value};
}

TORCH_LIBRARY_FRAGMENT(liger, m) {
  m.def(
      "attention_cudnn_forward(Tensor query, Tensor key, Tensor value, Tensor query_starts, "
      "Tensor query_lengths, Tensor key_starts, Tensor key_lengths, int longest, "
      "bool aligns_last, int window, float scale) -> (Tensor out, Tensor stats)");
  m.def(
      "attention_cudnn_backward(Tensor grad, Tensor query, Tensor key, Tensor value, Tensor out, "
      "Tensor stats, Tensor query_starts, Tensor query_lengths, Tensor key_starts, "
      "Tensor key_lengths, int longest, bool aligns_last, int window, float scale) "
      "-> (Tensor, Tensor, Tensor)");
}
TORCH_LIBRARY_IMPL(liger, CompositeExplicitAutograd, m) {
  m.impl("attention_cudnn_forward", Forward);
  m.impl("attention_cudnn_backward", Backward);
}
TORCH_LIBRARY_IMPL(liger, Meta, m) {
  m.impl("attention_cudnn_forward", ForwardMeta);
  m.impl("attention_cudnn_backward", BackwardMeta);
}

class Function : public torch::autograd::Function<Function> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& query, const at::Tensor& key,
                            const at::Tensor& value, const AttentionSpans& spans,
                            const AttentionOptions& options) {
    const at::AutoDispatchBelowADInplaceOrView guard;
    const at::Tensor query_QNH = query.contiguous(), key_TKH = key.contiguous();
    const at::Tensor value_TKH = value.contiguous();
    const Layout layout = LayoutOf(spans, options);
    const int64_t batch = BatchOf(spans);
    const Index queries = MakeIndex(spans.query_cu_seqlens, spans.query_offsets, batch, query_QNH);
    const Index keys = layout.aligns_last
                           ? MakeIndex(spans.key_cu_seqlens, spans.key_offsets, batch, query_QNH)
                           : queries;
    static const auto op = FindOp<decltype(Forward)>("liger::attention_cudnn_forward");
    const tensor_list made = KeptResults::Of("attention_cudnn", [&] {
      const auto [out, stats] =
          op.call(query_QNH, key_TKH, value_TKH, queries.starts, queries.lengths, keys.starts,
                  keys.lengths, layout.longest, layout.aligns_last, layout.window, layout.scale);
      return tensor_list{out, stats};
    });
    const at::Tensor &out_QNH = made[0], &stats_QN = made[1];
    ctx->save_for_backward({query_QNH, key_TKH, value_TKH, out_QNH, stats_QN, queries.starts,
                            queries.lengths, keys.starts, keys.lengths});
    ctx->saved_data["longest"] = layout.longest;
    ctx->saved_data["aligns_last"] = layout.aligns_last;
    ctx->saved_data["window"] = layout.window;
    ctx->saved_data["scale"] = layout.scale;
    return out_QNH;
  }

  static tensor_list backward(AutogradContext* ctx, const tensor_list& grads) {
    CheckFirstDerivative(kAttention);
    const tensor_list saved = ctx->get_saved_variables();
    auto& data = ctx->saved_data;
    static const auto op = FindOp<decltype(Backward)>("liger::attention_cudnn_backward");
    const auto [grad_query, grad_key, grad_value] =
        op.call(grads[0].contiguous(), saved[0], saved[1], saved[2], saved[3], saved[4], saved[5],
                saved[6], saved[7], saved[8], data["longest"].toInt(), data["aligns_last"].toBool(),
                data["window"].toInt(), data["scale"].toDouble());
    return {grad_query, grad_key, grad_value, at::Tensor(), at::Tensor()};
  }
};

// Asks for the backward plan, too, where backward may come: then it is too late for another
// backend.
bool HasPlans(const AttentionCall& call) {
  const auto needs_grad = [&] {
    return c10::GradMode::is_enabled() &&
           (call.query_QNH.requires_grad() || call.key_TKH.requires_grad() ||
            call.value_TKH.requires_grad());
  };
  for (const bool is_backward : {false, true}) {
    if (is_backward && !needs_grad()) continue;
    const auto& [plan, refusal] =
        cudnn::PlanFor(KeyOf(call.query_QNH, call.key_TKH, BatchOf(call.spans),
                             LayoutOf(call.spans, call.options), is_backward));
    if (plan != nullptr) continue;
    TORCH_WARN_ONCE(kAttention, ": backend 'cudnn': ", refusal);
    return false;
  }
  return true;
}

// Starts are int32.
bool FitsStarts(const AttentionCall& call) {
  return std::max(call.query_QNH.numel(), call.key_TKH.numel()) <=
         std::numeric_limits<int32_t>::max();
}

// Equal lengths need no masks at their ends. PyTorch keeps a plan for each shape.
class DenseFunction : public torch::autograd::Function<DenseFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& query_TNH,
                            const at::Tensor& key_TKH, const at::Tensor& value_TKH, int64_t length,
                            double scale) {
    const at::AutoDispatchBelowADInplaceOrView guard;
    const tensor_list made = KeptResults::Of("attention_cudnn_dense", [&] {
      const auto result = at::_scaled_dot_product_cudnn_attention(
          Rows(query_TNH, length), Rows(key_TKH, length), Rows(value_TKH, length),
          /*attn_bias=*/{}, /*compute_log_sumexp=*/true, /*dropout_p=*/0.0, /*is_causal=*/true,
          /*return_debug_mask=*/false, scale);
      return tensor_list{std::get<0>(result), std::get<1>(result), std::get<2>(result),
                         std::get<3>(result), std::get<6>(result), std::get<7>(result)};
    });
    tensor_list saved = {query_TNH, key_TKH, value_TKH};
    saved.insert(saved.end(), made.begin(), made.end());
    ctx->save_for_backward(saved);
    ctx->saved_data["length"] = length;
    ctx->saved_data["scale"] = scale;
    return Tokens(made[0]);
  }

  static tensor_list backward(AutogradContext* ctx, const tensor_list& grads) {
    CheckFirstDerivative(kAttention);
    const tensor_list saved = ctx->get_saved_variables();
    const int64_t length = ctx->saved_data["length"].toInt();
    const auto [grad_query, grad_key, grad_value] =
        at::_scaled_dot_product_cudnn_attention_backward(
            Rows(WithAlignedHeads(grads[0]), length), Rows(saved[0], length),
            Rows(saved[1], length), Rows(saved[2], length), saved[3], saved[4], saved[7], saved[8],
            /*attn_bias=*/{}, saved[5], saved[6], length, length, /*dropout_p=*/0.0,
            /*is_causal=*/true, ctx->saved_data["scale"].toDouble());
    return {Tokens(grad_query), Tokens(grad_key), Tokens(grad_value), at::Tensor(), at::Tensor()};
  }

 private:
  // [T, N, H] as [T / length, N, length, H], and back.
  static at::Tensor Rows(const at::Tensor& x_TNH, int64_t length) {
    return x_TNH.unflatten(0, {-1, length}).transpose(1, 2);
  }
  static at::Tensor Tokens(const at::Tensor& x) {
    return x.transpose(1, 2).flatten(0, 1).contiguous();
  }
};

at::Tensor DenseAttention(const AttentionCall& call) {
  return DenseFunction::apply(call.query_QNH, call.key_TKH, call.value_TKH, call.spans.max_keys(),
                              call.options.scale);
}

bool IsDense(const AttentionCall& call) {
  return call.options.window == 0 && call.spans.max_keys() % 128 == 0 && HasOneLength(call.spans);
}

// Undefined where PyTorch finds no plan for it, after which a device is not asked again.
at::Tensor TryDenseAttention(const AttentionCall& call) {
  static std::array<std::atomic<bool>, 64> refused{};
  auto& is_refused = refused[static_cast<size_t>(call.query_QNH.device().index()) % refused.size()];
  if (is_refused) return {};
  try {
    return DenseAttention(call);
  } catch (const c10::OutOfMemoryError&) {
    throw;
  } catch (const c10::AcceleratorError&) {
    throw;
  } catch (const c10::Error& error) {
    is_refused = true;
    TORCH_WARN(kAttention, ": backend 'cudnn': ", error.what_without_backtrace());
    return {};
  }
}

}  // namespace

bool CudnnTakes(const AttentionCall& call) {
  const at::Tensor& query_QNH = call.query_QNH;
  const auto dtype = query_QNH.scalar_type();
  const int64_t head_dim = query_QNH.size(2);
  if (!query_QNH.is_cuda() || (dtype != at::kBFloat16 && dtype != at::kHalf) ||
      call.options.softcap > 0 || head_dim % 8 != 0 || head_dim > 128 ||
      call.spans.max_keys() < kLeastLength || at::globalContext().deterministicAlgorithms()) {
    return false;
  }
  return cudnn::Available(query_QNH.device().index()) && (IsDense(call) || FitsStarts(call));
}

at::Tensor CudnnAttention(const AttentionCall& given) {
  const at::Tensor query = WithAlignedHeads(given.query_QNH), key = WithAlignedHeads(given.key_TKH);
  const at::Tensor value = WithAlignedHeads(given.value_TKH);
  const AttentionCall call{query, key, value, given.spans, given.options};
  if (IsDense(call)) {
    const at::Tensor out_QNH = TryDenseAttention(call);
    if (out_QNH.defined() || !FitsStarts(call)) return out_QNH;
  }
  if (!HasPlans(call)) return {};
  return Function::apply(query, key, value, call.spans, call.options);
}

}  // namespace liger::kernels
