#include <ATen/Context.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/torch.h>

#include <algorithm>
#include <limits>

#include "kernels/attention/backends.h"
#include "kernels/attention/cudnn_plans.h"
#include "kernels/common/autograd.h"

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

cudnn::PlanKey KeyOf(const at::Tensor& query_QNH, const at::Tensor& key_TKH,
                     const AttentionSpans& spans, const AttentionOptions& options) {
  cudnn::PlanKey key;
  key.device = query_QNH.device().index();
  key.is_bf16 = query_QNH.scalar_type() == at::kBFloat16;
  key.aligns_last = spans.query_offsets != spans.key_offsets;
  key.heads = query_QNH.size(1);
  key.key_heads = key_TKH.size(1);
  key.head_dim = query_QNH.size(2);
  key.batch = 1;
  while (key.batch < spans.size()) key.batch *= 2;
  key.length = RoundUp(spans.max_keys(), spans.max_keys() <= 4096 ? 512 : 1024);
  key.total = RoundUp(key_TKH.size(0), 4096);
  key.window = options.window;
  key.scale = options.scale;
  return key;
}

// Where sequences begin and how long they are, on the device, as plans take it.
struct Index {
  at::Tensor starts, lengths;  // in tokens
};

Index MakeIndex(const at::Tensor& given, const std::vector<int64_t>& offsets, int64_t batch,
                const at::Tensor& like) {
  at::Tensor cu = CuSeqlens(given, offsets, like);
  const int64_t missing = batch + 1 - cu.size(0);
  if (missing > 0) cu = at::cat({cu, cu.slice(0, cu.size(0) - 1).expand({missing})});
  return {cu, cu.slice(0, 1) - cu.slice(0, 0, batch)};
}

void Run(cudnn::PlanKey key, const Index& queries, const Index& keys, cudnn::Pointers pointers) {
  const at::Tensor query_starts = queries.starts * (key.heads * key.head_dim);
  const at::Tensor key_starts = keys.starts * (key.key_heads * key.head_dim);
  const at::Tensor stats_starts = queries.starts * key.heads;
  pointers[cudnn::kQueryStarts] = query_starts.data_ptr();
  pointers[cudnn::kKeyStarts] = key_starts.data_ptr();
  pointers[cudnn::kStatsStarts] = stats_starts.data_ptr();
  pointers[cudnn::kQueryLengths] = queries.lengths.data_ptr();
  pointers[cudnn::kKeyLengths] = keys.lengths.data_ptr();
  const auto plan = cudnn::PlanFor(key);
  const at::Device device = query_starts.device();
  const at::Tensor workspace =
      at::empty({plan->workspace_bytes()}, at::TensorOptions(device).dtype(at::kByte));
  void* stream = c10::impl::VirtualGuardImpl(device.type()).getStream(device).native_handle();
  plan->Run(std::move(pointers), workspace.data_ptr(), stream);
}

class Function : public torch::autograd::Function<Function> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& query, const at::Tensor& key,
                            const at::Tensor& value, const AttentionSpans& spans,
                            const AttentionOptions& options) {
    const c10::DeviceGuard guard(query.device());
    const at::Tensor query_QNH = query.contiguous(), key_TKH = key.contiguous();
    const at::Tensor value_TKH = value.contiguous();
    const cudnn::PlanKey plan = KeyOf(query_QNH, key_TKH, spans, options);
    const Index queries =
        MakeIndex(spans.query_cu_seqlens, spans.query_offsets, plan.batch, query_QNH);
    const Index keys =
        plan.aligns_last ? MakeIndex(spans.key_cu_seqlens, spans.key_offsets, plan.batch, query_QNH)
                         : queries;
    const at::Tensor out_QNH = at::empty(query_QNH.sizes(), query_QNH.options());
    const at::Tensor stats_QN =
        at::empty({query_QNH.size(0), plan.heads}, query_QNH.options().dtype(at::kFloat));
    Run(plan, queries, keys,
        {{cudnn::kQuery, query_QNH.data_ptr()},
         {cudnn::kKey, key_TKH.data_ptr()},
         {cudnn::kValue, value_TKH.data_ptr()},
         {cudnn::kOut, out_QNH.data_ptr()},
         {cudnn::kStats, stats_QN.data_ptr()}});
    ctx->save_for_backward({query_QNH, key_TKH, value_TKH, out_QNH, stats_QN, queries.starts,
                            queries.lengths, keys.starts, keys.lengths});
    ctx->saved_data["query_offsets"] = spans.query_offsets;
    ctx->saved_data["key_offsets"] = spans.key_offsets;
    ctx->saved_data["window"] = options.window;
    ctx->saved_data["scale"] = options.scale;
    return out_QNH;
  }

  static tensor_list backward(AutogradContext* ctx, const tensor_list& grads) {
    CheckFirstDerivative(kAttention);
    const tensor_list saved = ctx->get_saved_variables();
    const at::Tensor &query_QNH = saved[0], &key_TKH = saved[1], &value_TKH = saved[2];
    const c10::DeviceGuard guard(query_QNH.device());
    const AttentionSpans spans{ctx->saved_data["query_offsets"].toIntVector(),
                               ctx->saved_data["key_offsets"].toIntVector(),
                               {},
                               {}};
    const AttentionOptions options{.scale = ctx->saved_data["scale"].toDouble(),
                                   .window = ctx->saved_data["window"].toInt()};
    cudnn::PlanKey plan = KeyOf(query_QNH, key_TKH, spans, options);
    plan.is_backward = true;
    const at::Tensor grad_QNH = grads[0].contiguous();
    const at::Tensor grad_query = at::empty(query_QNH.sizes(), query_QNH.options());
    at::Tensor grad_key = at::empty(key_TKH.sizes(), key_TKH.options());
    at::Tensor grad_value = at::empty(value_TKH.sizes(), value_TKH.options());
    if (plan.aligns_last) {  // keys that nobody asks for may be left alone
      grad_key.zero_();
      grad_value.zero_();
    }
    Run(plan, {saved[5], saved[6]}, {saved[7], saved[8]},
        {{cudnn::kQuery, query_QNH.data_ptr()},
         {cudnn::kKey, key_TKH.data_ptr()},
         {cudnn::kValue, value_TKH.data_ptr()},
         {cudnn::kOut, saved[3].data_ptr()},
         {cudnn::kStats, saved[4].data_ptr()},
         {cudnn::kGradOut, grad_QNH.data_ptr()},
         {cudnn::kGradQuery, grad_query.data_ptr()},
         {cudnn::kGradKey, grad_key.data_ptr()},
         {cudnn::kGradValue, grad_value.data_ptr()}});
    return {grad_query, grad_key, grad_value, at::Tensor(), at::Tensor()};
  }
};

// Equal lengths need no masks at their ends. PyTorch keeps a plan for each shape.
at::Tensor DenseAttention(const AttentionCall& call) {
  const int64_t length = call.spans.max_keys();
  const auto rows = [length](const at::Tensor& x_TNH) {
    return x_TNH.unflatten(0, {-1, length}).transpose(1, 2);
  };
  const at::Tensor out = std::get<0>(at::_scaled_dot_product_cudnn_attention(
      rows(call.query_QNH), rows(call.key_TKH), rows(call.value_TKH), /*attn_bias=*/{},
      /*compute_log_sumexp=*/true, /*dropout_p=*/0.0, /*is_causal=*/true,
      /*return_debug_mask=*/false, call.options.scale));
  return out.transpose(1, 2).flatten(0, 1).contiguous();
}

bool IsDense(const AttentionCall& call) {
  return call.options.window == 0 && call.spans.max_keys() % 128 == 0 && HasOneLength(call.spans);
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
  // Starts are int32.
  const int64_t most = std::max(query_QNH.numel(), call.key_TKH.numel());
  return cudnn::Available(query_QNH.device().index()) &&
         (IsDense(call) || most <= std::numeric_limits<int32_t>::max());
}

at::Tensor CudnnAttention(const AttentionCall& call) {
  if (IsDense(call)) return DenseAttention(call);
  return Function::apply(call.query_QNH, call.key_TKH, call.value_TKH, call.spans, call.options);
}

}  // namespace liger::kernels
