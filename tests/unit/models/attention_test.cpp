#include "worker/trainer/models/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/unit/models/golden.h"

namespace liger::trainer {
namespace {

SequenceLayout Layout(const std::vector<int64_t>& lengths) {
  std::vector<int64_t> offsets = {0};
  for (int64_t length : lengths) offsets.push_back(offsets.back() + length);
  return SequenceLayout::FromCuSeqlens(at::tensor(offsets), at::kCPU);
}

AttentionOptions Options(const at::Tensor& q_TNH) {
  return {.scale = 1 / std::sqrt(static_cast<double>(q_TNH.size(2)))};
}

// Scores of all pairs of tokens, masked to the tokens of the same sequence that
// the window shows.
at::Tensor Reference(const at::Tensor& q_TNH, const at::Tensor& k_TKH, const at::Tensor& v_TKH,
                     const SequenceLayout& layout, const AttentionOptions& options) {
  const int64_t tokens = q_TNH.size(0), repeats = q_TNH.size(1) / k_TKH.size(1);
  const at::Tensor k_NTH = k_TKH.repeat_interleave(repeats, 1).transpose(0, 1);
  const at::Tensor v_NTH = v_TKH.repeat_interleave(repeats, 1).transpose(0, 1);
  at::Tensor mask_TT =
      at::full({tokens, tokens}, -std::numeric_limits<double>::infinity(), q_TNH.options());
  for (int64_t s = 0; s < layout.num_sequences(); ++s) {
    for (int64_t t = layout.offsets_S1[s]; t < layout.offsets_S1[s + 1]; ++t) {
      const int64_t first = options.window > 0 ? t - options.window + 1 : 0;
      mask_TT[t].slice(0, std::max(first, layout.offsets_S1[s]), t + 1).zero_();
    }
  }
  at::Tensor scores_NTT = q_TNH.transpose(0, 1).matmul(k_NTH.transpose(1, 2)) * options.scale;
  if (options.softcap > 0) scores_NTT = options.softcap * (scores_NTT / options.softcap).tanh();
  return (scores_NTT + mask_TT).softmax(-1).matmul(v_NTH).transpose(0, 1);
}

struct Shape {
  std::vector<int64_t> lengths;
  int64_t heads, kv_heads, head_dim;
  AttentionOptions options;
};

class AttentionTest : public testing::TestWithParam<Shape> {};

TEST_P(AttentionTest, MatchesDenseReferenceAndItsGradients) {
  const Shape& shape = GetParam();
  const SequenceLayout layout = Layout(shape.lengths);
  const int64_t tokens = layout.num_tokens();
  at::manual_seed(1);
  const auto leaf = [&](int64_t heads) {
    return at::randn({tokens, heads, shape.head_dim}, at::kDouble).requires_grad_();
  };
  const at::Tensor q = leaf(shape.heads), k = leaf(shape.kv_heads), v = leaf(shape.kv_heads);
  const at::Tensor grad = at::randn({tokens, shape.heads, shape.head_dim}, at::kDouble);
  const at::Tensor expected = Reference(q, k, v, layout, shape.options);
  const auto expected_grads = torch::autograd::grad({expected}, {q, k, v}, {grad});
  for (const auto& [dtype, tolerance] : {std::pair(at::kDouble, 1e-12), {at::kFloat, 1e-6}}) {
    const auto copy = [&](const at::Tensor& x) {
      return x.detach().to(dtype).clone().requires_grad_();
    };
    const at::Tensor q2 = copy(q), k2 = copy(k), v2 = copy(v);
    const at::Tensor actual = CausalAttention(q2, k2, v2, layout, shape.options);
    EXPECT_TRUE(actual.is_contiguous());
    EXPECT_LT(golden::RelativeError(actual, expected), tolerance);
    const auto grads = torch::autograd::grad({actual}, {q2, k2, v2}, {grad.to(dtype)});
    for (int i = 0; i < 3; ++i) {
      EXPECT_LT(golden::RelativeError(grads[i], expected_grads[i]), tolerance) << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, AttentionTest,
    testing::Values(Shape{{7, 1, 40, 3}, 4, 2, 16, {.scale = 0.25}},
                    Shape{{129}, 9, 3, 64, {.scale = 0.125}},
                    Shape{{5, 5}, 2, 2, 8, {.scale = 0.3}},
                    Shape{{64, 65}, 4, 1, 24, {.scale = 0.2}},
                    Shape{{40, 3, 16, 17}, 4, 2, 16, {.scale = 0.25, .window = 16}},
                    Shape{{9, 4}, 2, 1, 8, {.scale = 0.3, .window = 2}},
                    Shape{{33, 7}, 4, 2, 16, {.scale = 0.5, .softcap = 2}},
                    // More queries than PlainAttention takes at a time.
                    Shape{{300, 2, 520}, 4, 2, 8, {.scale = 0.5, .window = 40, .softcap = 3}}));

TEST(AttentionTest, CachedTokenSeesItsWindowAndCap) {
  const SequenceLayout layout = Layout({21});
  const at::Tensor q = at::randn({21, 4, 8}), k = at::randn({21, 2, 8}), v = at::randn({21, 2, 8});
  for (const AttentionOptions& options :
       {AttentionOptions{.scale = 0.5, .window = 5}, AttentionOptions{.scale = 0.5, .softcap = 1.5},
        AttentionOptions{.scale = 0.5, .window = 5, .softcap = 1}}) {
    const at::Tensor whole = Reference(q, k, v, layout, options);
    EXPECT_LT(golden::RelativeError(CachedAttention(q, k, v, options), whole), 1e-6);
    EXPECT_LT(
        golden::RelativeError(CachedAttention(q.slice(0, 20), k, v, options), whole.slice(0, 20)),
        1e-6);
  }
}

TEST(AttentionTest, SequencesDoNotSeeEachOther) {
  const SequenceLayout layout = Layout({6, 9});
  const at::Tensor q = at::randn({15, 2, 8}), k = at::randn({15, 1, 8}), v = at::randn({15, 1, 8});
  const at::Tensor before = CausalAttention(q, k, v, layout, Options(q));
  k.slice(0, 0, 6).add_(1);
  v.slice(0, 0, 6).add_(1);
  const at::Tensor after = CausalAttention(q, k, v, layout, Options(q));
  EXPECT_TRUE(after.slice(0, 6).equal(before.slice(0, 6)));
  EXPECT_FALSE(after.slice(0, 0, 6).allclose(before.slice(0, 0, 6)));
}

TEST(AttentionTest, CachedTokenSeesAllBeforeIt) {
  const SequenceLayout layout = Layout({11});
  const at::Tensor q = at::randn({11, 4, 8}), k = at::randn({11, 2, 8}), v = at::randn({11, 2, 8});
  const at::Tensor whole = CausalAttention(q, k, v, layout, Options(q));
  EXPECT_LT(golden::RelativeError(CachedAttention(q, k, v, Options(q)), whole), 1e-6);
  EXPECT_LT(
      golden::RelativeError(CachedAttention(q.slice(0, 10), k, v, Options(q)), whole.slice(0, 10)),
      1e-6);
}

}  // namespace
}  // namespace liger::trainer
