#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <limits>

#include "kernels/attention/backends.h"
#include "kernels/common/autograd.h"

namespace liger::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

constexpr int64_t kRows = 256;

// Queries [first, last) of the sequence whose queries begin at query_begin, counted with the
// `prefix` keys before them, and the keys that any of them sees.
struct Chunk {
  int64_t query_begin, key_begin, prefix, first, last, key_first;
  at::Tensor Rows(const at::Tensor& x_QNH) const {
    return x_QNH.slice(0, query_begin + first - prefix, query_begin + last - prefix);
  }
  at::Tensor Keys(const at::Tensor& x_TKH) const {
    return x_TKH.slice(0, key_begin + key_first, key_begin + last);
  }
};

template <typename F>
void ForEachChunk(const AttentionSpans& spans, int64_t window, const F& f) {
  for (int64_t s = 0; s < spans.size(); ++s) {
    const auto i = static_cast<size_t>(s);
    const int64_t length = spans.num_keys(s), prefix = length - spans.num_queries(s);
    for (int64_t first = prefix; first < length; first += kRows) {
      const int64_t key_first = window > 0 ? std::max<int64_t>(0, first - window + 1) : 0;
      f(Chunk{spans.query_offsets[i], spans.key_offsets[i], prefix, first,
              std::min(first + kRows, length), key_first});
    }
  }
}

at::Tensor Leaf(const at::Tensor& x) { return x.detach().requires_grad_(); }

// A few queries at a time, computed again in the backward pass, so that no more than
// N x kRows x L scores exist at once.
class Function : public torch::autograd::Function<Function> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& query_QNH,
                            const at::Tensor& key_TKH, const at::Tensor& value_TKH,
                            const AttentionSpans& spans, const AttentionOptions& options) {
    ctx->save_for_backward({query_QNH, key_TKH, value_TKH});
    ctx->saved_data["query_offsets"] = spans.query_offsets;
    ctx->saved_data["key_offsets"] = spans.key_offsets;
    ctx->saved_data["window"] = options.window;
    ctx->saved_data["scale"] = options.scale;
    ctx->saved_data["softcap"] = options.softcap;
    at::Tensor out_QNH = at::empty(query_QNH.sizes(), query_QNH.options());
    ForEachChunk(spans, options.window, [&](const Chunk& c) {
      c.Rows(out_QNH).copy_(PlainRows(c.Rows(query_QNH), c.first, c.Keys(key_TKH),
                                      c.Keys(value_TKH), c.key_first, options));
    });
    return out_QNH;
  }

  static tensor_list backward(AutogradContext* ctx, const tensor_list& grads) {
    CheckFirstDerivative(kAttention);
    const tensor_list saved = ctx->get_saved_variables();
    const AttentionOptions options = {.scale = ctx->saved_data["scale"].toDouble(),
                                      .window = ctx->saved_data["window"].toInt(),
                                      .softcap = ctx->saved_data["softcap"].toDouble()};
    const AttentionSpans spans{ctx->saved_data["query_offsets"].toIntVector(),
                               ctx->saved_data["key_offsets"].toIntVector(),
                               {},
                               {}};
    const bool is_double = saved[0].scalar_type() == at::kDouble;
    const auto sum_dtype = is_double ? at::kDouble : at::kFloat;
    tensor_list sums = {at::empty(saved[0].sizes(), saved[0].options())};
    for (size_t i = 1; i < 3; ++i) {
      sums.push_back(at::zeros(saved[i].sizes(), saved[i].options().dtype(sum_dtype)));
    }
    ForEachChunk(spans, options.window, [&](const Chunk& c) {
      const at::AutoGradMode with_grad(true);
      const tensor_list leaves = {Leaf(c.Rows(saved[0])), Leaf(c.Keys(saved[1])),
                                  Leaf(c.Keys(saved[2]))};
      const at::Tensor out =
          PlainRows(leaves[0], c.first, leaves[1], leaves[2], c.key_first, options);
      const tensor_list parts = torch::autograd::grad({out}, leaves, {c.Rows(grads[0])});
      const at::NoGradGuard no_grad;
      c.Rows(sums[0]).copy_(parts[0]);
      for (size_t i = 1; i < 3; ++i) c.Keys(sums[i]).add_(parts[i]);
    });
    for (size_t i = 1; i < 3; ++i) sums[i] = sums[i].to(saved[i].scalar_type());
    return {sums[0], sums[1], sums[2], at::Tensor(), at::Tensor()};
  }
};

}  // namespace

// Query heads that share a key head are its rows.
at::Tensor PlainRows(const at::Tensor& query_QNH, int64_t first, const at::Tensor& key_LKH,
                     const at::Tensor& value_LKH, int64_t key_first,
                     const AttentionOptions& options) {
  const int64_t rows = query_QNH.size(0), keys = key_LKH.size(0), heads = key_LKH.size(1);
  // [K, N / K, Q, H], [K, 1, L, H]
  const at::Tensor query = query_QNH.unflatten(1, {heads, -1}).permute({1, 2, 0, 3});
  const at::Tensor key = key_LKH.transpose(0, 1).unsqueeze(1);
  const at::Tensor value = value_LKH.transpose(0, 1).unsqueeze(1);
  at::Tensor scores = at::matmul(query, key.transpose(-1, -2)) * options.scale;
  if (options.softcap > 0) scores = (scores / options.softcap).tanh() * options.softcap;

  const auto index = query_QNH.options().dtype(at::kLong);
  const at::Tensor distance_QL = at::arange(first, first + rows, index).unsqueeze(1) -
                                 at::arange(key_first, key_first + keys, index);
  at::Tensor unseen_QL = distance_QL.lt(0);
  if (options.window > 0) unseen_QL = unseen_QL.logical_or(distance_QL.ge(options.window));
  scores = scores.masked_fill(unseen_QL, -std::numeric_limits<double>::infinity());
  const auto softmax_dtype = scores.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor out =
      at::matmul(scores.softmax(-1, softmax_dtype).to(query_QNH.scalar_type()), value);
  return out.permute({2, 0, 1, 3}).flatten(1, 2);
}

at::Tensor PlainAttention(const AttentionCall& call) {
  return Function::apply(call.query_QNH, call.key_TKH, call.value_TKH, call.spans, call.options);
}

}  // namespace liger::kernels
