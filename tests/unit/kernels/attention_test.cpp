// Attention beyond the op table: what is refused, and each backend by name.
#include "kernels/attention/attention.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "bad_input.h"
#include "kernels/attention/cudnn_plans.h"

namespace liger::kernels {
namespace {

AttentionSpans Spans(std::vector<int64_t> queries, std::vector<int64_t> keys) {
  return {std::move(queries), std::move(keys), {}, {}};
}

TEST(BadInputTest, Attention) {
  const AttentionOptions options{.scale = 1};
  const auto call = [=](at::IntArrayRef q, at::IntArrayRef k, const AttentionSpans& spans,
                        AttentionOptions o, AttentionBackend backend = AttentionBackend::kAuto) {
    return [=, q = q.vec(), k = k.vec()] {
      Attention(Zeros(q), Zeros(k), Zeros(k), spans, o, backend);
    };
  };
  const AttentionSpans five = Spans({0, 5}, {0, 5});
  ExpectMessages({
      {call({5, 2}, {5, 2, 8}, five, options), {"attention: query", "[5, 2]"}},
      {call({5, 4, 8}, {5, 2, 6}, five, options), {"attention: key", "[5, 2, 6]", "[5, 4, 8]"}},
      {call({5, 4, 8}, {5, 3, 8}, five, options), {"attention: query", "4 heads", "3"}},
      {call({5, 4, 8}, {5, 2, 8}, Spans({0, 4}, {0, 5}), options), {"query_offsets", "ends at 4"}},
      {call({5, 4, 8}, {5, 2, 8}, Spans({0, 5}, {0, 6}), options), {"key_offsets", "ends at 6"}},
      {call({5, 4, 8}, {5, 2, 8}, Spans({1, 5}, {0, 5}), options),
       {"query_offsets", "begin with 0"}},
      {call({5, 4, 8}, {5, 2, 8}, Spans({0, 6, 5}, {0, 5, 5}), options), {"query_offsets", "fall"}},
      {call({5, 4, 8}, {5, 2, 8}, Spans({0, 2, 5}, {0, 5}), options),
       {"query_offsets has 3 entries"}},
      {call({5, 4, 8}, {5, 2, 8}, Spans({0, 3, 5}, {0, 2, 5}), options),
       {"sequence 0 has 3 queries and only 2 keys"}},
      {call({5, 4, 8}, {5, 2, 8}, five, {}), {"scale is 0", "positive"}},
      {call({5, 4, 8}, {5, 2, 8}, five, {.scale = -0.5}), {"scale is -0.5"}},
      {call({5, 4, 8}, {5, 2, 8}, five, {.scale = 1, .window = -1}), {"window is -1"}},
      {call({5, 4, 8}, {5, 2, 8}, five, {.scale = 1, .softcap = -2}), {"softcap is -2"}},
      {call({5, 4, 8}, {5, 2, 8}, five, {.scale = 1, .softcap = 1e-50}), {"softcap is 1e-50"}},
      {call({5, 4, 8}, {5, 2, 8}, five, options, AttentionBackend::kFlash),
       {"backend 'flash' does not take", "Float", "cpu"}},
      {call({5, 4, 8}, {5, 2, 8}, five, {.scale = 1, .softcap = 2}, AttentionBackend::kTiled),
       {"backend 'tiled' does not take", "Float", "cpu", "softcap 2"}},
      {[=] {
         Attention(Zeros({5, 4, 8}), Zeros({5, 2, 8}, at::kBFloat16), Zeros({5, 2, 8}), five,
                   options);
       },
       {"attention: key", "BFloat16"}},
      {[=] {
         Attention(Zeros({5, 4, 8}), Zeros({5, 2, 8}), OnMeta({5, 2, 8}), five, options);
       },
       {"attention: value", "meta"}},
  });
  const auto with_cu_seqlens = [=](const at::Tensor& queries, const at::Tensor& keys) {
    return [=] {
      AttentionSpans spans = five;
      spans.query_cu_seqlens = queries;
      spans.key_cu_seqlens = keys;
      Attention(Zeros({5, 4, 8}), Zeros({5, 2, 8}), Zeros({5, 2, 8}), spans, options);
    };
  };
  const at::Tensor good = at::tensor({0, 5}, at::kInt);
  ExpectMessages({
      {with_cu_seqlens(good.to(at::kLong), good), {"attention: query_cu_seqlens", "Long", "Int"}},
      {with_cu_seqlens(good, Zeros({3}, at::kInt)),
       {"attention: key_cu_seqlens", "[3]", "[S + 1] = [2]"}},
      {with_cu_seqlens(good.to(at::kMeta), good), {"attention: query_cu_seqlens", "meta", "cpu"}},
  });
}

// A sequence's last query stands at its last key, whichever backend computes.
TEST(AttentionTest, BackendsAgree) {
  at::manual_seed(3);
  const at::Tensor q = at::randn({30, 4, 8}, at::kDouble), k = at::randn({41, 2, 8}, at::kDouble);
  const at::Tensor v = at::randn_like(k);
  const AttentionSpans spans = Spans({0, 9, 9, 30}, {0, 11, 13, 41});
  for (const int64_t window : {0, 4}) {
    const AttentionOptions options{.scale = 0.3, .window = window};
    const at::Tensor flash = Attention(q, k, v, spans, options, AttentionBackend::kCpuFlash);
    const at::Tensor plain = Attention(q, k, v, spans, options, AttentionBackend::kPlain);
    EXPECT_TRUE(flash.allclose(plain, 1e-12, 1e-12)) << window;
    EXPECT_TRUE(flash.is_contiguous());
  }
}

// Neighbours along a head that are not neighbours in memory: PyTorch's flash kernels would read
// what is between them.
TEST(AttentionTest, StridesAreFree) {
  at::manual_seed(3);
  const AttentionSpans spans = Spans({0, 3, 9}, {0, 3, 9});
  const at::Tensor upstream = at::randn({9, 4, 8});
  const std::vector<at::Tensor> inputs = {at::randn({9, 4, 8}), at::randn({9, 2, 8}),
                                          at::randn({9, 2, 8})};
  const auto run = [&](const AttentionOptions& options, const std::vector<at::Tensor>& in) {
    std::vector<at::Tensor> leaves;
    for (const at::Tensor& t : in) leaves.push_back(t.detach().requires_grad_());
    const at::Tensor out = Attention(leaves[0], leaves[1], leaves[2], spans, options);
    std::vector<at::Tensor> results = torch::autograd::grad({out}, leaves, {upstream});
    results.push_back(out.detach());
    return results;
  };
  for (const AttentionOptions options : {AttentionOptions{.scale = 0.3},
                                         {.scale = 0.3, .window = 2},
                                         {.scale = 0.3, .softcap = 2}}) {
    const auto expected = run(options, inputs);
    for (size_t i = 0; i < inputs.size(); ++i) {
      auto strided = inputs;
      strided[i] = at::stack({inputs[i], at::full_like(inputs[i], 1e30)}, -1).select(-1, 0);
      ASSERT_EQ(strided[i].stride(2), 2);
      const auto results = run(options, strided);
      for (size_t j = 0; j < results.size(); ++j) {
        EXPECT_TRUE(results[j].equal(expected[j])) << "input " << i << ", result " << j;
      }
    }
  }
}

// A plan that cuDNN does not have is an answer, so that another backend can take the call. (No
// head has 4097 numbers, on a GPU either.)
TEST(AttentionTest, NoPlanIsNoException) {
  for (int i = 0; i < 2; ++i) {
    const auto& [plan, error] = cudnn::PlanFor(
        {.heads = 2, .key_heads = 2, .head_dim = 4097, .batch = 1, .length = 512, .total = 4096});
    EXPECT_EQ(plan, nullptr);
    EXPECT_NE(error, "");
  }
}

// Keys and values after a query do not reach it.
TEST(AttentionTest, NothingIsSeenFromTheFuture) {
  const at::Tensor q = at::randn({10, 2, 8}), k = at::randn({10, 2, 8}), v = at::randn({10, 2, 8});
  const AttentionSpans spans = Spans({0, 10}, {0, 10});
  const at::Tensor before = Attention(q, k, v, spans, {.scale = 0.3});
  k[9].fill_(1e4);
  v[9].fill_(1e4);
  const at::Tensor after = Attention(q, k, v, spans, {.scale = 0.3});
  EXPECT_TRUE(before.slice(0, 0, 9).equal(after.slice(0, 0, 9)));
  EXPECT_FALSE(before[9].equal(after[9]));
}

}  // namespace
}  // namespace liger::kernels
