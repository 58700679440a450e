#include "worker/trainer/models/attention.h"

#include <algorithm>
#include <limits>
#include <optional>

namespace liger::trainer {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

// Tokens [begin, end) as the [1, heads, L, H] that PyTorch's attention takes.
at::Tensor Slice(const at::Tensor& x_TNH, int64_t begin, int64_t end) {
  return x_TNH.slice(0, begin, end).transpose(0, 1).unsqueeze(0);
}

// Where the tokens of each sequence lie: all of them in offsets, those that it
// computes itself (the queries) in own_offsets. computed_T: which computed token
// serves each; undefined when every sequence computes all of its own.
struct Spans {
  std::vector<int64_t> offsets, own_offsets;
  at::Tensor computed_T;

  explicit Spans(const SequenceLayout& layout)
      : offsets(layout.offsets_S1),
        own_offsets(layout.shared ? layout.shared->own_offsets_S1 : layout.offsets_S1),
        computed_T(layout.shared ? layout.shared->computed_T : at::Tensor()) {}
  Spans(const AutogradContext& ctx, at::Tensor computed_T)
      : offsets(ctx.saved_data.at("offsets").toIntVector()),
        own_offsets(ctx.saved_data.at("own_offsets").toIntVector()),
        computed_T(std::move(computed_T)) {}
  void Save(AutogradContext& ctx) const {
    ctx.saved_data["offsets"] = offsets;
    ctx.saved_data["own_offsets"] = own_offsets;
  }

  size_t size() const { return offsets.size() - 1; }
  int64_t Length(size_t s) const { return offsets[s + 1] - offsets[s]; }
  int64_t Prefix(size_t s) const { return Length(s) - (own_offsets[s + 1] - own_offsets[s]); }
  at::Tensor Own(const at::Tensor& x_UNH, size_t s) const {
    return x_UNH.slice(0, own_offsets[s], own_offsets[s + 1]);
  }
  at::Tensor PrefixIndex(size_t s) const {
    return computed_T.slice(0, offsets[s], offsets[s] + Prefix(s));
  }
  // All tokens of sequence s as the [1, heads, L, H] that PyTorch's attention takes.
  at::Tensor All(const at::Tensor& x_UNH, size_t s) const {
    if (Prefix(s) == 0) return Slice(x_UNH, own_offsets[s], own_offsets[s + 1]);
    const at::Tensor index_L = computed_T.slice(0, offsets[s], offsets[s + 1]);
    return Slice(x_UNH.index_select(0, index_L), 0, Length(s));
  }
};

// [1, heads, L, H] back to [L, heads, H].
at::Tensor Tokens(const at::Tensor& x) { return x.squeeze(0).transpose(0, 1); }

// Added to the scores of a sequence of `length`: 0 where a token is seen, -inf
// where not. Undefined when the window holds the whole sequence; the kernel's own
// causal mask does then.
at::Tensor WindowMask(int64_t length, int64_t window, const at::TensorOptions& options) {
  if (window == 0 || window >= length) return {};
  const at::Tensor ones_LL = at::ones({length, length}, options.dtype(at::kBool));
  const at::Tensor unseen_LL = ones_LL.triu(1).logical_or(ones_LL.tril(-window));
  return at::zeros({length, length}, options)
      .masked_fill_(unseen_LL, -std::numeric_limits<double>::infinity());
}

std::optional<at::Tensor> Given(const at::Tensor& x) {
  return x.defined() ? std::optional(x) : std::nullopt;
}

// One flash call a sequence. As one autograd node, so that U tokens are written
// in place instead of being concatenated from S graph branches. A sequence that
// shares its prefix asks the prefix's queries once more (the kernel has no other
// mask) and drops the answers.
class CpuAttention : public torch::autograd::Function<CpuAttention> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& query_UNH,
                            const at::Tensor& key_UKH, const at::Tensor& value_UKH,
                            const SequenceLayout& layout, const AttentionOptions& options) {
    const Spans spans(layout);
    at::Tensor out_UNH = at::empty(query_UNH.sizes(), query_UNH.options());
    tensor_list saved = {query_UNH, key_UKH, value_UKH, out_UNH, spans.computed_T};
    for (size_t s = 0; s < spans.size(); ++s) {
      if (spans.Length(s) == 0) continue;
      const at::Tensor mask = WindowMask(spans.Length(s), options.window, query_UNH.options());
      auto [out, logsumexp] = at::_scaled_dot_product_flash_attention_for_cpu(
          spans.All(query_UNH, s), spans.All(key_UKH, s), spans.All(value_UKH, s),
          /*dropout_p=*/0.0, /*is_causal=*/!mask.defined(), Given(mask), options.scale);
      spans.Own(out_UNH, s).copy_(Tokens(out).slice(0, spans.Prefix(s)));
      saved.push_back(logsumexp);
    }
    ctx->save_for_backward(saved);
    spans.Save(*ctx);
    ctx->saved_data["window"] = options.window;
    ctx->saved_data["scale"] = options.scale;
    return out_UNH;
  }

  static tensor_list backward(AutogradContext* ctx, const tensor_list& grads) {
    const tensor_list saved = ctx->get_saved_variables();
    const at::Tensor &query_UNH = saved[0], &key_UKH = saved[1], &value_UKH = saved[2];
    const at::Tensor& out_UNH = saved[3];
    const Spans spans(*ctx, saved[4]);
    auto logsumexp = saved.begin() + 5;
    const int64_t window = ctx->saved_data["window"].toInt();
    const double scale = ctx->saved_data["scale"].toDouble();
    const at::Tensor grad_out_UNH = grads[0].contiguous();
    at::Tensor grad_query_UNH = at::empty(query_UNH.sizes(), query_UNH.options());
    at::Tensor grad_key_UKH = at::zeros(key_UKH.sizes(), key_UKH.options());
    at::Tensor grad_value_UKH = at::zeros(value_UKH.sizes(), value_UKH.options());
    for (size_t s = 0; s < spans.size(); ++s) {
      if (spans.Length(s) == 0) continue;
      const at::Tensor mask = WindowMask(spans.Length(s), window, query_UNH.options());
      auto [grad_query, grad_key, grad_value] =
          at::_scaled_dot_product_flash_attention_for_cpu_backward(
              GradOut(grad_out_UNH, spans, s), spans.All(query_UNH, s), spans.All(key_UKH, s),
              spans.All(value_UKH, s), spans.All(out_UNH, s), *logsumexp++, /*dropout_p=*/0.0,
              /*is_causal=*/!mask.defined(), Given(mask), scale);
      spans.Own(grad_query_UNH, s).copy_(Tokens(grad_query).slice(0, spans.Prefix(s)));
      Add(Tokens(grad_key), spans, s, grad_key_UKH);
      Add(Tokens(grad_value), spans, s, grad_value_UKH);
    }
    return {grad_query_UNH, grad_key_UKH, grad_value_UKH, at::Tensor(), at::Tensor()};
  }

 private:
  // Nothing comes back through the answers that were dropped.
  static at::Tensor GradOut(const at::Tensor& grad_UNH, const Spans& spans, size_t s) {
    const at::Tensor own = spans.Own(grad_UNH, s);
    const at::Tensor all =
        spans.Prefix(s) == 0 ? own : at::constant_pad_nd(own, {0, 0, 0, 0, spans.Prefix(s), 0});
    return Slice(all, 0, spans.Length(s));
  }

  // Adds a sequence's gradient to that of the tokens that serve it.
  static void Add(const at::Tensor& grad, const Spans& spans, size_t s, at::Tensor& sum_UKH) {
    const int64_t prefix = spans.Prefix(s);
    spans.Own(sum_UKH, s).add_(grad.slice(0, prefix));
    if (prefix > 0) sum_UKH.index_add_(0, spans.PrefixIndex(s), grad.slice(0, 0, prefix));
  }
};

// Tokens [first, first + Q) of a sequence against keys [key_first, key_first + L)
// of it, by plain operations. Query heads that share a key head are its rows.
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

// For what no kernel of PyTorch's has (softcap; windows in fp32 on a GPU): a few
// queries at a time, computed again in the backward pass, so that no more than
// N x kPlainRows x L scores exist at once.
class PlainAttention : public torch::autograd::Function<PlainAttention> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& query_TNH,
                            const at::Tensor& key_TKH, const at::Tensor& value_TKH,
                            const std::vector<int64_t>& offsets, const AttentionOptions& options) {
    ctx->save_for_backward({query_TNH, key_TKH, value_TKH});
    ctx->saved_data["offsets"] = offsets;
    ctx->saved_data["window"] = options.window;
    ctx->saved_data["scale"] = options.scale;
    ctx->saved_data["softcap"] = options.softcap;
    at::Tensor out_TNH = at::empty(query_TNH.sizes(), query_TNH.options());
    ForEachChunk(offsets, options.window, [&](const Chunk& c) {
      c.Rows(out_TNH).copy_(PlainRows(c.Rows(query_TNH), c.first, c.Keys(key_TKH),
                                      c.Keys(value_TKH), c.key_first, options));
    });
    return out_TNH;
  }

  static tensor_list backward(AutogradContext* ctx, const tensor_list& grads) {
    const tensor_list saved = ctx->get_saved_variables();
    const AttentionOptions options = {.scale = ctx->saved_data["scale"].toDouble(),
                                      .window = ctx->saved_data["window"].toInt(),
                                      .softcap = ctx->saved_data["softcap"].toDouble()};
    const bool is_double = saved[0].scalar_type() == at::kDouble;
    const auto sum_dtype = is_double ? at::kDouble : at::kFloat;
    tensor_list sums = {at::empty_like(saved[0], at::MemoryFormat::Contiguous)};
    for (int i = 1; i < 3; ++i) {
      sums.push_back(at::zeros(saved[i].sizes(), saved[i].options().dtype(sum_dtype)));
    }
    ForEachChunk(ctx->saved_data["offsets"].toIntVector(), options.window, [&](const Chunk& c) {
      const at::AutoGradMode with_grad(true);
      const tensor_list leaves = {Leaf(c.Rows(saved[0])), Leaf(c.Keys(saved[1])),
                                  Leaf(c.Keys(saved[2]))};
      const at::Tensor out =
          PlainRows(leaves[0], c.first, leaves[1], leaves[2], c.key_first, options);
      const tensor_list parts = torch::autograd::grad({out}, leaves, {c.Rows(grads[0])});
      const at::NoGradGuard no_grad;
      c.Rows(sums[0]).copy_(parts[0]);
      for (int i = 1; i < 3; ++i) c.Keys(sums[i]).add_(parts[i]);
    });
    for (int i = 1; i < 3; ++i) sums[i] = sums[i].to(saved[i].scalar_type());
    return {sums[0], sums[1], sums[2], at::Tensor(), at::Tensor()};
  }

 private:
  static constexpr int64_t kPlainRows = 256;

  // Queries [first, last) of the sequence that begins at `begin`, and the keys
  // that any of them sees.
  struct Chunk {
    int64_t begin, first, last, key_first;
    at::Tensor Rows(const at::Tensor& x_TNH) const {
      return x_TNH.slice(0, begin + first, begin + last);
    }
    at::Tensor Keys(const at::Tensor& x_TKH) const {
      return x_TKH.slice(0, begin + key_first, begin + last);
    }
  };

  template <typename F>
  static void ForEachChunk(const std::vector<int64_t>& offsets, int64_t window, const F& f) {
    for (size_t s = 0; s + 1 < offsets.size(); ++s) {
      const int64_t length = offsets[s + 1] - offsets[s];
      for (int64_t first = 0; first < length; first += kPlainRows) {
        const int64_t key_first = window > 0 ? std::max<int64_t>(0, first - window + 1) : 0;
        f(Chunk{offsets[s], first, std::min(first + kPlainRows, length), key_first});
      }
    }
  }

  static at::Tensor Leaf(const at::Tensor& x) { return x.detach().requires_grad_(); }
};

// [.., K, H] to [.., N, H], for kernels that want as many key heads as queries.
at::Tensor RepeatHeads(const at::Tensor& x_TKH, int64_t num_heads) {
  const int64_t repeats = num_heads / x_TKH.size(1);
  return repeats == 1 ? x_TKH : x_TKH.repeat_interleave(repeats, 1);
}

at::Tensor PerSequenceAttention(const at::Tensor& query_TNH, const at::Tensor& key_TKH,
                                const at::Tensor& value_TKH, const std::vector<int64_t>& offsets,
                                double scale) {
  const at::Tensor key_TNH = RepeatHeads(key_TKH, query_TNH.size(1));
  const at::Tensor value_TNH = RepeatHeads(value_TKH, query_TNH.size(1));
  std::vector<at::Tensor> outs;
  for (size_t s = 0; s + 1 < offsets.size(); ++s) {
    const int64_t begin = offsets[s], end = offsets[s + 1];
    if (begin == end) continue;
    const at::Tensor out = at::scaled_dot_product_attention(
        Slice(query_TNH, begin, end), Slice(key_TNH, begin, end), Slice(value_TNH, begin, end),
        /*attn_mask=*/{}, /*dropout_p=*/0.0, /*is_causal=*/true, scale);
    outs.push_back(out.squeeze(0).transpose(0, 1));
  }
  return outs.empty() ? at::empty_like(query_TNH) : at::cat(outs);
}

// Queries that share their prefix's keys are fewer than the keys; the causal
// mask is aligned to the last of both.
at::Tensor CudaFlashAttention(const at::Tensor& query_UNH, const at::Tensor& key_TKH,
                              const at::Tensor& value_TKH, const SequenceLayout& sequences,
                              const AttentionOptions& options) {
  const SharedPrefixes* shared = sequences.shared.get();
  // The kernel counts the tokens before a query, without itself.
  const auto before = options.window > 0 ? std::optional<c10::SymInt>(options.window - 1)
                                         : std::optional<c10::SymInt>();
  const auto after = options.window > 0 ? std::optional<c10::SymInt>(0) : before;
  return std::get<0>(at::_flash_attention_forward_symint(
      query_UNH, key_TKH, value_TKH, shared ? shared->own_cu_seqlens_S1 : sequences.cu_seqlens_S1,
      sequences.cu_seqlens_S1, shared ? shared->max_own : sequences.max_seqlen,
      sequences.max_seqlen, /*dropout_p=*/0.0, /*is_causal=*/true, /*return_debug_mask=*/false,
      options.scale, before, after));
}

// What torch's FlashAttention-2 takes.
bool FlashTakes(const at::Tensor& query_TNH) {
  const bool half =
      query_TNH.scalar_type() == at::kBFloat16 || query_TNH.scalar_type() == at::kHalf;
  return half && query_TNH.size(2) % 8 == 0 && query_TNH.size(2) <= 256;
}

}  // namespace

at::Tensor CausalAttention(const at::Tensor& query_UNH, const at::Tensor& key_UKH,
                           const at::Tensor& value_UKH, const SequenceLayout& sequences,
                           const AttentionOptions& asked) {
  TORCH_CHECK(query_UNH.size(0) == sequences.num_computed(), "attention over ", query_UNH.size(0),
              " tokens with a layout of ", sequences.num_computed());
  AttentionOptions options = asked;
  if (options.window >= sequences.max_seqlen) options.window = 0;
  if (query_UNH.is_cpu() && options.softcap == 0) {
    return CpuAttention::apply(query_UNH, key_UKH, value_UKH, sequences, options);
  }
  const auto all = [&](const at::Tensor& x_U) {
    return sequences.shared ? ToAllTokens(x_U, *sequences.shared) : x_U;
  };
  const at::Tensor key_TKH = all(key_UKH), value_TKH = all(value_UKH);
  if (FlashTakes(query_UNH) && options.softcap == 0) {
    return CudaFlashAttention(query_UNH, key_TKH, value_TKH, sequences, options);
  }
  const bool plain = options.softcap > 0 || options.window > 0;
  const at::Tensor query_TNH = all(query_UNH);
  const at::Tensor out_TNH =
      plain ? PlainAttention::apply(query_TNH, key_TKH, value_TKH, sequences.offsets_S1, options)
            : PerSequenceAttention(query_TNH, key_TKH, value_TKH, sequences.offsets_S1,
                                   options.scale);
  return sequences.shared ? out_TNH.index_select(0, sequences.shared->owner_U) : out_TNH;
}

at::Tensor CachedAttention(const at::Tensor& query_TNH, const at::Tensor& key_CKH,
                           const at::Tensor& value_CKH, const AttentionOptions& options) {
  const int64_t num_new = query_TNH.size(0), num_cached = key_CKH.size(0);
  TORCH_CHECK(num_new == 1 || num_new == num_cached,
              "decoding takes the whole prompt or one token at a time, got ", num_new, " of ",
              num_cached);
  if (num_new > 1) {
    const at::Tensor cu_seqlens = at::tensor({int64_t{0}, num_cached}, at::kInt);
    return CausalAttention(query_TNH, key_CKH, value_CKH,
                           SequenceLayout::FromCuSeqlens(cu_seqlens, query_TNH.device()), options);
  }
  const int64_t first = options.window > 0 ? std::max<int64_t>(0, num_cached - options.window) : 0;
  return PlainRows(query_TNH, num_cached - 1, key_CKH.slice(0, first), value_CKH.slice(0, first),
                   first, options)
      .contiguous();
}

}  // namespace liger::trainer
