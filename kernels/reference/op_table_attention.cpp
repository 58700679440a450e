#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "kernels/reference/attention_reference.h"
#include "kernels/reference/op_table_parts.h"

namespace liger::kernels {
namespace {

// Inputs are value, query and key: PyTorch's kernel for CPUs answers a query that is NaN with
// numbers, but brings a NaN value through.
//
// Two sequences: of equal lengths where that is what a backend takes, else one and two thirds
// of the tokens. Queries that are missing (their keys belong to another sequence's prefix) are
// the second one's first.
AttentionSpans SpansOf(const Tensors& in) {
  const int64_t Q = in[1].size(0), T = in[0].size(0);
  const int64_t first = Q == T && T % 2048 == 0 ? T / 2 : T / 3;
  return {.query_offsets = {0, first, Q}, .key_offsets = {0, first, T}};
}

// scaled_dot_product_attention of each sequence by itself.
at::Tensor PytorchAttention(const Tensors& in, double scale, int64_t window) {
  const AttentionSpans spans = SpansOf(in);
  Tensors outputs;
  for (int64_t s = 0; s < spans.size(); ++s) {
    const int64_t queries = spans.num_queries(s), keys = spans.num_keys(s);
    const auto heads_first = [](const at::Tensor& x, int64_t begin, int64_t length) {
      return x.slice(0, begin, begin + length).transpose(0, 1).unsqueeze(0);
    };
    at::Tensor seen = at::ones({queries, keys}, in[0].options().dtype(at::kBool));
    seen = seen.tril(keys - queries);
    if (window > 0) seen = seen.triu(keys - queries - window + 1);
    outputs.push_back(at::scaled_dot_product_attention(
                          heads_first(in[1], spans.query_offsets[s], queries),
                          heads_first(in[2], spans.key_offsets[s], keys),
                          heads_first(in[0], spans.key_offsets[s], keys), seen, /*dropout_p=*/0.0,
                          /*is_causal=*/false, scale, /*enable_gqa=*/true)
                          .squeeze(0)
                          .transpose(0, 1));
  }
  return at::cat(outputs);
}

struct Kind {
  std::string name;
  int64_t window = 0;
  double softcap = 0;
  bool shares_prefix = false;
};

std::vector<OpShape> Shapes() {
  return {{"two_tokens", 2, 16, 1},
          {"ragged", 37, 24, 2},
          {"odd_heads", 11, 7, 3},
          {"two_blocks", 531, 16, 1},
          {"no_tokens", 0, 8, 2},
          {.name = "wide_heads", .tokens = 150, .width = 256, .vocab = 1, .gpu_only = true},
          {.name = "equal_lengths", .tokens = 2048, .width = 64, .vocab = 1, .gpu_only = true},
          {.name = "long_ragged", .tokens = 1700, .width = 128, .vocab = 1, .gpu_only = true}};
}

OpCase AttentionCase(const Kind& kind) {
  const auto options = [=](const Tensors& in) {
    return AttentionOptions{1 / std::sqrt(static_cast<double>(in[0].size(2))), kind.window,
                            kind.softcap};
  };
  std::function<Tensors(const Tensors&)> pytorch;
  if (kind.softcap == 0) {
    pytorch = [=](const Tensors& in) -> Tensors {
      return {PytorchAttention(in, options(in).scale, kind.window)};
    };
  }
  return {.name = kind.name,
          .op = "attention",
          .shapes = Shapes(),
          .make = [=](const OpShape& s, c10::ScalarType dtype) -> Tensors {
            const int64_t missing = kind.shares_prefix ? s.tokens / 4 : 0;
            return {Randn({s.tokens, s.vocab, s.width}, dtype),
                    Randn({s.tokens - missing, 2 * s.vocab, s.width}, dtype, 2),
                    Randn({s.tokens, s.vocab, s.width}, dtype)};
          },
          .differentiable = {true, true, true},
          .ours = [=](const Tensors& in) -> Tensors {
            return {Attention(in[1], in[2], in[0], SpansOf(in), options(in))};
          },
          .baseline = [=](const Tensors& in) -> Tensors {
            return {baseline::Attention(in[1], in[2], in[0], SpansOf(in), options(in))};
          },
          .pytorch_on_cpu = pytorch,
          .reference =
              [=](const Tensors& in, const Tensors& g) {
                auto result =
                    reference::Attention(in[1], in[2], in[0], SpansOf(in), options(in), g[0]);
                std::ranges::rotate(result.grads, result.grads.end() - 1);
                return result;
              }};
}

}  // namespace

std::vector<OpCase> AttentionCases() {
  return {AttentionCase({.name = "attention"}),
          AttentionCase({.name = "attention_shared_prefix", .shares_prefix = true}),
          AttentionCase({.name = "attention_window", .window = 5}),
          AttentionCase({.name = "attention_softcap", .softcap = 3}),
          AttentionCase({.name = "attention_window_softcap_shared_prefix",
                         .window = 9,
                         .softcap = 2,
                         .shares_prefix = true})};
}

}  // namespace liger::kernels
