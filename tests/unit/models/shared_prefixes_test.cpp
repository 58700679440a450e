#include "worker/trainer/models/shared_prefixes.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "tests/unit/models/golden.h"
#include "worker/trainer/models/attention.h"
#include "worker/trainer/models/registry.h"
#include "worker/trainer/models/weights.h"
#include "worker/trainer/objectives/token_logprobs.h"

namespace liger::trainer {
namespace {

using Sequences = std::vector<std::vector<int64_t>>;

struct Tokens {
  at::Tensor ids_T;
  SequenceLayout layout;  // shared set where there is something to share
};

Tokens Concatenate(const Sequences& sequences) {
  std::vector<int64_t> ids, offsets = {0};
  for (const auto& sequence : sequences) {
    ids.insert(ids.end(), sequence.begin(), sequence.end());
    offsets.push_back(static_cast<int64_t>(ids.size()));
  }
  Tokens out{at::tensor(ids, at::kLong),
             SequenceLayout::FromCuSeqlens(at::tensor(offsets), at::kCPU)};
  out.layout.shared = SharedPrefixes::Find(out.ids_T, offsets, at::kCPU);
  return out;
}

// A few letters, so that prefixes of every length are shared, whole sequences included.
Sequences RandomSequences(uint64_t seed) {
  std::mt19937_64 random(seed);
  Sequences sequences(1 + random() % 7);
  for (auto& sequence : sequences) {
    sequence.resize(random() % 12);
    for (int64_t& id : sequence) id = static_cast<int64_t>(random() % 2);
  }
  return sequences;
}

TEST(SharedPrefixesTest, ServesEachTokenByOneWithTheSameTokensBeforeIt) {
  int64_t found = 0;
  for (uint64_t seed = 0; seed < 500; ++seed) {
    const Sequences sequences = RandomSequences(seed);
    const auto [ids_T, layout] = Concatenate(sequences);
    if (!layout.shared) continue;
    ++found;
    const SharedPrefixes& shared = *layout.shared;
    std::map<int64_t, std::vector<int64_t>> served;  // computed token -> its prefix
    std::set<int64_t> owned;
    int64_t t = 0, owned_count = 0;
    for (size_t s = 0; s < sequences.size(); ++s) {
      const auto& sequence = sequences[s];
      for (size_t i = 0; i < sequence.size(); ++i, ++t) {
        const int64_t u = shared.computed_T[t].item<int64_t>();
        const std::vector<int64_t> prefix(sequence.begin(), sequence.begin() + i + 1);
        EXPECT_EQ(served.emplace(u, prefix).first->second, prefix) << "seed " << seed;
        const bool own = static_cast<int64_t>(i) >= shared.prefix_S[s];
        EXPECT_EQ(shared.owner_U[u].item<int64_t>() == t, own) << "seed " << seed;
        owned_count += own;
        owned.insert(u);
      }
      EXPECT_TRUE(sequence.empty() || shared.prefix_S[s] < static_cast<int64_t>(sequence.size()));
    }
    EXPECT_EQ(owned_count, shared.num_computed());
    EXPECT_EQ(static_cast<int64_t>(owned.size()), owned_count);
  }
  EXPECT_GT(found, 200);
}

// Every distinct prefix once, but for the last token of a sequence that is the
// beginning of another.
TEST(SharedPrefixesTest, ComputesNoPrefixTwice) {
  const auto [ids_T, layout] =
      Concatenate({{1, 2, 3, 4}, {9, 9}, {1, 2, 5}, {1, 2, 3, 6, 7}, {1, 2, 5, 8}});
  ASSERT_TRUE(layout.shared);
  EXPECT_EQ(layout.shared->prefix_S, (std::vector<int64_t>{0, 0, 2, 3, 3}));
  EXPECT_EQ(layout.num_computed(), 10);
}

TEST(SharedPrefixesTest, LeavesBatchesAloneThatSaveLittle) {
  EXPECT_FALSE(Concatenate({}).layout.shared);
  EXPECT_FALSE(Concatenate({{1, 2, 3}}).layout.shared);
  EXPECT_FALSE(Concatenate({{1, 2}, {2, 2}, {3, 2}}).layout.shared);
  std::vector<int64_t> a(40, 1), b(40, 2);
  b[0] = 1;  // 1 token of 80
  EXPECT_FALSE(Concatenate({a, b}).layout.shared);
}

TEST(SharedPrefixesTest, GradientsOfASharedTokenAdd) {
  const auto [ids_T, layout] = Concatenate({{1, 2, 3}, {1, 2, 4}, {1, 5}});
  const at::Tensor x_U = at::randn({layout.num_computed(), 4}, at::kDouble).requires_grad_();
  const at::Tensor grad_T = at::randn({layout.num_tokens(), 4}, at::kDouble);
  const at::Tensor expected = x_U.index_select(0, layout.shared->computed_T);
  const at::Tensor actual = ToAllTokens(x_U, *layout.shared);
  EXPECT_TRUE(actual.equal(expected));
  const auto grad = [&](const at::Tensor& y) {
    return torch::autograd::grad({y}, {x_U}, {grad_T})[0];
  };
  EXPECT_TRUE(grad(actual).allclose(grad(expected), 1e-14, 1e-14));
  // In bf16 a sum of many is rounded once, not at each addition.
  const auto many = Concatenate(Sequences(300, {1, 2})).layout;
  const at::Tensor half_U = at::zeros({many.num_computed(), 1}, at::kBFloat16).requires_grad_();
  const at::Tensor ones_T = at::ones({many.num_tokens(), 1}, at::kBFloat16);
  const auto sums =
      torch::autograd::grad({ToAllTokens(half_U, *many.shared)}, {half_U}, {ones_T})[0];
  EXPECT_EQ(sums[0].item<float>(), 300);
}

TEST(SharedPrefixesTest, AttentionIsThatOfWholeSequences) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const auto [ids_T, layout] = Concatenate(RandomSequences(seed));
    if (!layout.shared) continue;
    SequenceLayout whole = layout;
    whole.shared = nullptr;
    at::manual_seed(seed);
    std::vector<at::Tensor> inputs;
    for (const int64_t heads : {4, 2, 2}) {
      inputs.push_back(at::randn({layout.num_computed(), heads, 8}, at::kDouble).requires_grad_());
    }
    const AttentionOptions options = {
        .scale = 0.4, .window = seed % 4 == 1 ? 3 : 0, .softcap = seed % 4 == 2 ? 1.5 : 0};
    const auto all = [&](int i) { return inputs[i].index_select(0, layout.shared->computed_T); };
    const at::Tensor expected = CausalAttention(all(0), all(1), all(2), whole, options)
                                    .index_select(0, layout.shared->owner_U);
    const at::Tensor actual = CausalAttention(inputs[0], inputs[1], inputs[2], layout, options);
    EXPECT_LT(golden::RelativeError(actual, expected), 1e-12) << "seed " << seed;
    const at::Tensor grad = at::randn_like(expected);
    const auto expected_grads = torch::autograd::grad({expected}, inputs, {grad});
    const auto grads = torch::autograd::grad({actual}, inputs, {grad});
    for (int i = 0; i < 3; ++i) {
      EXPECT_LT(golden::RelativeError(grads[i], expected_grads[i]), 1e-12) << "seed " << seed;
    }
  }
}

// Logits and every gradient of a model, its prefixes shared or not.
TEST(SharedPrefixesTest, ChangeNothingButTheWork) {
  const std::string folder = golden::Folder("tiny/gqa_tied_v5");
  ExampleSet set;
  for (const std::vector<int32_t>& ids : std::vector<std::vector<int32_t>>{
           {1, 2, 3, 4, 5, 6, 7}, {1, 2, 3, 4, 9, 9}, {8, 7, 6}, {1, 2, 3, 4, 9, 1, 1, 1}}) {
    set.sequences.push_back({.input_ids = ids, .labels = ids});
  }
  const std::vector<int64_t> rows = {0, 1, 2, 3};
  const Batch batch = MakeBatch(set, rows);
  std::vector<std::map<std::string, at::Tensor>> results;
  for (const bool shared : {false, true}) {
    liger::v1::KernelSpec kernels = golden::Kernels("LIGER");
    kernels.set_shared_prefixes(shared);
    const auto model = BuildModel(ModelConfig::FromFolder(folder), kernels, at::kDouble);
    InitializeWeights(*model, 5);
    const ModelInput input = ToModelInput(batch, *model);
    EXPECT_EQ(input.input_ids_U.size(0), shared ? 24 - 4 - 5 : 24);
    auto& result = results.emplace_back();
    result["logits"] = model->Logits(model->Hidden(input));
    result["logits"].square().sum().backward();
    for (const auto& item : model->named_parameters()) result[item.key()] = item.value().grad();
  }
  for (const auto& [name, expected] : results[0]) {
    EXPECT_LT(golden::RelativeError(results[1][name], expected), 1e-12) << name;
  }
}

}  // namespace
}  // namespace liger::trainer
