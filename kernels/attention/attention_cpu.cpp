#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <limits>

#include "kernels/attention/backends.h"
#include "kernels/common/autograd.h"
#include "kernels/kept_results.h"

namespace liger::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

// Added to the scores of a sequence of `length`: 0 where a token is seen, -inf where not.
// nullopt when the window holds the whole sequence; the kernel's own causal mask does then.
std::optional<at::Tensor> WindowMask(int64_t length, int64_t window,
                                     const at::TensorOptions& options) {
  if (window == 0 || window >= length) return std::nullopt;
  const at::Tensor ones_LL = at::ones({length, length}, options.dtype(at::kBool));
  const at::Tensor unseen_LL = ones_LL.triu(1).logical_or(ones_LL.tril(-window));
  return at::zeros({length, length}, options)
      .masked_fill_(unseen_LL, -std::numeric_limits<double>::infinity());
}

// One sequence's share of the tensors. The kernel aligns the first query with the first key,
// so a sequence with fewer queries is given zeros before them: their answers are dropped,
// and nothing comes back through them.
struct Sequence {
  int64_t query_begin, query_end, key_begin, key_end;

  int64_t length() const { return key_end - key_begin; }
  int64_t prefix() const { return length() - (query_end - query_begin); }
  at::Tensor Queries(const at::Tensor& x_QNH) const {
    return x_QNH.slice(0, query_begin, query_end);
  }
  at::Tensor Keys(const at::Tensor& x_TKH) const { return x_TKH.slice(0, key_begin, key_end); }
  // As the [1, heads, L, H] that the kernel takes.
  at::Tensor PaddedQueries(const at::Tensor& x_QNH) const {
    at::Tensor x_LNH = Queries(x_QNH);
    if (prefix() > 0) x_LNH = at::constant_pad_nd(x_LNH, {0, 0, 0, 0, prefix(), 0});
    return HeadsFirst(x_LNH, 0, length());
  }
  at::Tensor AllKeys(const at::Tensor& x_TKH) const {
    return HeadsFirst(x_TKH, key_begin, key_end);
  }
  // [1, heads, L, H] back to the queries' own [.., heads, H].
  at::Tensor Own(const at::Tensor& x) const {
    return x.squeeze(0).transpose(0, 1).slice(0, prefix());
  }
};

template <typename F>
void ForEachSequence(const std::vector<int64_t>& queries, const std::vector<int64_t>& keys,
                     const F& f) {
  for (size_t s = 0; s + 1 < keys.size(); ++s) {
    if (queries[s] == queries[s + 1]) continue;
    f(Sequence{queries[s], queries[s + 1], keys[s], keys[s + 1]});
  }
}

// One flash call a sequence. As one autograd node, so that the tokens are written in place
// instead of being concatenated from S graph branches.
class Function : public torch::autograd::Function<Function> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& query_QNH,
                            const at::Tensor& key_TKH, const at::Tensor& value_TKH,
                            const AttentionSpans& spans, const AttentionOptions& options) {
    const tensor_list made = KeptResults::Of("attention_cpu_flash", [&] {
      tensor_list out_and_logsumexps = {at::empty(query_QNH.sizes(), query_QNH.options())};
      ForEachSequence(spans.query_offsets, spans.key_offsets, [&](const Sequence& s) {
        const auto mask = WindowMask(s.length(), options.window, query_QNH.options());
        auto [out, logsumexp] = at::_scaled_dot_product_flash_attention_for_cpu(
            s.PaddedQueries(query_QNH), s.AllKeys(key_TKH), s.AllKeys(value_TKH),
            /*dropout_p=*/0.0, /*is_causal=*/!mask, mask, options.scale);
        s.Queries(out_and_logsumexps[0]).copy_(s.Own(out));
        out_and_logsumexps.push_back(logsumexp);
      });
      return out_and_logsumexps;
    });
    tensor_list saved = {query_QNH, key_TKH, value_TKH};
    saved.insert(saved.end(), made.begin(), made.end());
    ctx->save_for_backward(saved);
    ctx->saved_data["query_offsets"] = spans.query_offsets;
    ctx->saved_data["key_offsets"] = spans.key_offsets;
    ctx->saved_data["window"] = options.window;
    ctx->saved_data["scale"] = options.scale;
    return made[0];
  }

  static tensor_list backward(AutogradContext* ctx, const tensor_list& grads) {
    CheckFirstDerivative(kAttention);
    const tensor_list saved = ctx->get_saved_variables();
    const at::Tensor &query_QNH = saved[0], &key_TKH = saved[1], &value_TKH = saved[2];
    const at::Tensor& out_QNH = saved[3];
    auto logsumexp = saved.begin() + 4;
    const int64_t window = ctx->saved_data["window"].toInt();
    const double scale = ctx->saved_data["scale"].toDouble();
    const at::Tensor grad_out_QNH = grads[0].contiguous();
    at::Tensor grad_query_QNH = at::empty(query_QNH.sizes(), query_QNH.options());
    // Keys of a sequence without queries have no gradient.
    at::Tensor grad_key_TKH = at::zeros(key_TKH.sizes(), key_TKH.options());
    at::Tensor grad_value_TKH = at::zeros(value_TKH.sizes(), value_TKH.options());
    ForEachSequence(ctx->saved_data["query_offsets"].toIntVector(),
                    ctx->saved_data["key_offsets"].toIntVector(), [&](const Sequence& s) {
                      const auto mask = WindowMask(s.length(), window, query_QNH.options());
                      auto [grad_query, grad_key, grad_value] =
                          at::_scaled_dot_product_flash_attention_for_cpu_backward(
                              s.PaddedQueries(grad_out_QNH), s.PaddedQueries(query_QNH),
                              s.AllKeys(key_TKH), s.AllKeys(value_TKH), s.PaddedQueries(out_QNH),
                              *logsumexp++,
                              /*dropout_p=*/0.0, /*is_causal=*/!mask, mask, scale);
                      s.Queries(grad_query_QNH).copy_(s.Own(grad_query));
                      s.Keys(grad_key_TKH).copy_(grad_key.squeeze(0).transpose(0, 1));
                      s.Keys(grad_value_TKH).copy_(grad_value.squeeze(0).transpose(0, 1));
                    });
    return {grad_query_QNH, grad_key_TKH, grad_value_TKH, at::Tensor(), at::Tensor()};
  }
};

}  // namespace

bool CpuFlashTakes(const AttentionCall& call) {
  // A new token's one query is not worth as many zero queries as there are keys.
  const bool decodes = call.spans.max_queries() == 1 && call.spans.max_keys() > 1;
  return call.query_QNH.is_cpu() && call.options.softcap == 0 && !decodes;
}

at::Tensor CpuFlashAttention(const AttentionCall& call) {
  return Function::apply(call.query_QNH, call.key_TKH, call.value_TKH, call.spans, call.options);
}

}  // namespace liger::kernels
