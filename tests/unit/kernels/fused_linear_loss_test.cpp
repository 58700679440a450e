// A loss over groups of tokens in 3 products against the same loss of FusedLinearLogprob's.
#include "kernels/fused_linear_loss/fused_linear_loss.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

#include "kernels/fused_linear_logprob/fused_linear_logprob.h"
#include "test_device.h"

namespace liger::kernels {
namespace {

struct Case {
  at::Tensor hidden, weight, target;
  TokenGroups groups;
};

// Groups of uneven lengths whose tokens are not in order; a third of the tokens in none.
Case MakeCase(int64_t T, int64_t H, int64_t V, std::vector<int64_t> lengths,
              at::ScalarType dtype = at::kFloat) {
  at::manual_seed(5);
  const auto leaf = [&](at::Tensor t) { return t.to(kDevice, dtype).requires_grad_(); };
  Case c{.hidden = leaf(at::randn({T, H})),
         .weight = leaf(at::randn({V, H})),
         .target = at::randint(V, {T}, at::kLong).to(kDevice),
         .groups = {}};
  c.groups.offsets_G1 = {0};
  for (const int64_t length : lengths) {
    c.groups.offsets_G1.push_back(c.groups.offsets_G1.back() + length);
  }
  c.groups.rows_M = at::randperm(T, at::kLong).slice(0, 0, c.groups.offsets_G1.back()).to(kDevice);
  // Nobody may read it.
  at::Tensor others = at::ones({T}, c.target.options().dtype(at::kBool));
  others.index_fill_(0, c.groups.rows_M, 0);
  c.target.masked_fill_(others, int64_t{1} << 40);
  return c;
}

// -log sigmoid of the group's mean, which each of its tokens changes; weighted by the group.
at::Tensor LossOfGroup(const at::Tensor& logp, int64_t group) {
  return -at::log_sigmoid(logp.to(at::kDouble).mean() + 5) * static_cast<double>(group + 1);
}

GroupLoss SumOfGroups(const TokenGroups& groups) {
  return [&groups](const GroupTokens& tokens) {
    at::Tensor sum = at::zeros({}, tokens.logp_C.options().dtype(at::kDouble));
    for (int64_t g = tokens.begin; g < tokens.end; ++g) {
      const int64_t first = groups.offsets_G1[static_cast<size_t>(g)] - tokens.first;
      const int64_t end = groups.offsets_G1[static_cast<size_t>(g + 1)] - tokens.first;
      if (first < end) sum = sum + LossOfGroup(tokens.logp_C.slice(0, first, end), g);
    }
    return sum;
  };
}

struct Expected {
  at::Tensor loss, logp_T, grad_hidden, grad_weight;
};

Expected ByLogprobs(const Case& c, const FusedLinearLossOptions& options = {}) {
  FusedLinearLogprobOptions with;
  with.softcap = options.softcap;
  with.temperature = options.temperature;
  const at::Tensor logp_M =
      FusedLinearLogprob(c.hidden.index_select(0, c.groups.rows_M), c.weight,
                         c.target.index_select(0, c.groups.rows_M), std::nullopt, with)
          .logp_T;
  const auto count = static_cast<int64_t>(c.groups.offsets_G1.size()) - 1;
  const at::Tensor loss = SumOfGroups(c.groups)({.begin = 0,
                                                 .end = count,
                                                 .first = 0,
                                                 .logp_C = logp_M,
                                                 .entropy_C = {},
                                                 .log_sum_sq_C = {},
                                                 .mean_logit_C = {},
                                                 .is_top1_C = {}});
  const auto grads = torch::autograd::grad({loss}, {c.hidden, c.weight});
  const at::Tensor logp_T = at::zeros({c.hidden.size(0)}, logp_M.options())
                                .index_copy(0, c.groups.rows_M, logp_M.detach());
  return {loss.detach(), logp_T, grads[0], grads[1]};
}

void ExpectClose(const at::Tensor& a, const at::Tensor& b, double tolerance = 1e-5) {
  const at::Tensor x = a.detach().to(at::kDouble), y = b.detach().to(at::kDouble);
  ASSERT_EQ(x.sizes(), y.sizes());
  EXPECT_LE((x - y).norm().item<double>(), tolerance * y.norm().item<double>());
}

void ExpectAsByLogprobs(const Case& c, const FusedLinearLossOptions& options, double tolerance) {
  const Expected expected = ByLogprobs(c, options);
  const auto out =
      FusedLinearLoss(c.hidden, c.weight, c.target, c.groups, SumOfGroups(c.groups), options);
  ExpectClose(out.loss, expected.loss, tolerance);
  ExpectClose(out.logp_T, expected.logp_T, tolerance);
  EXPECT_FALSE(out.logp_T.requires_grad());
  const auto grads = torch::autograd::grad({out.loss * 2}, {c.hidden, c.weight});
  ExpectClose(grads[0], expected.grad_hidden * 2, tolerance);
  ExpectClose(grads[1], expected.grad_weight * 2, tolerance);
}

TEST(FusedLinearLossTest, IsTheLossOfTheLogprobsAndItsGradients) {
  const Case c = MakeCase(29, 24, 211, {3, 7, 1, 0, 9});
  ExpectAsByLogprobs(c, {}, 1e-5);
  ExpectAsByLogprobs(c, {.softcap = 5.0, .temperature = 1.3}, 1e-5);
  ExpectAsByLogprobs(MakeCase(29, 24, 211, {3, 7, 1, 9}, at::kBFloat16), {}, 2e-2);
}

// More than a chunk holds (32 MiB on a CPU): in ranges, and a group that is longer than one.
TEST(FusedLinearLossTest, CutsBetweenGroupsAndWithinLongOnes) {
  ExpectAsByLogprobs(MakeCase(150, 3, 131101, {40, 20, 10, 60}), {}, 1e-4);
  ExpectAsByLogprobs(MakeCase(150, 3, 131101, {10, 100, 20}), {}, 1e-4);
}

TEST(FusedLinearLossTest, GivesTheStatisticsAndWithoutGradientsTheSame) {
  const Case c = MakeCase(29, 24, 211, {3, 7, 1, 9});
  const auto with = FusedLinearLoss(c.hidden, c.weight, c.target, c.groups, SumOfGroups(c.groups),
                                    {.token_stats = true});
  const at::NoGradGuard no_grad;
  const auto out = FusedLinearLoss(c.hidden, c.weight, c.target, c.groups, SumOfGroups(c.groups),
                                   {.token_stats = true});
  EXPECT_FALSE(out.loss.requires_grad());
  ExpectClose(out.loss, with.loss);
  const auto& rows = c.groups.rows_M;
  const auto expected =
      FusedLinearLogprob(c.hidden.index_select(0, rows), c.weight, c.target.index_select(0, rows),
                         std::nullopt, {.token_stats = true});
  ExpectClose(out.entropy_T.index_select(0, rows), expected.entropy_T);
  ExpectClose(out.log_sum_sq_T.index_select(0, rows), expected.log_sum_sq_T);
  ExpectClose(out.mean_logit_T.index_select(0, rows), expected.mean_logit_T);
  ExpectClose(out.is_top1_T.index_select(0, rows), expected.is_top1_T);
  ExpectClose(with.entropy_T, out.entropy_T);
}

TEST(FusedLinearLossTest, AddsTheHeadsGradientToTheBuffer) {
  const Case c = MakeCase(29, 24, 211, {3, 7, 1, 9});
  const Expected expected = ByLogprobs(c);
  at::Tensor buffer = at::ones({211, 24}, c.weight.options().requires_grad(false));
  const auto out = FusedLinearLoss(c.hidden, c.weight, c.target, c.groups, SumOfGroups(c.groups),
                                   {.grad_weight_VH = buffer});
  ExpectClose(buffer - 1, expected.grad_weight);
  const auto grads = torch::autograd::grad({out.loss}, {c.hidden, c.weight}, {}, std::nullopt,
                                           /*create_graph=*/false, /*allow_unused=*/true);
  ExpectClose(grads[0], expected.grad_hidden);
  EXPECT_FALSE(grads[1].defined());
}

// Also while both are frozen, as FusedLinearCrossEntropy does: gradients are on.
TEST(FusedLinearLossTest, AddsToTheBufferOfAFrozenHeadAndBody) {
  Case c = MakeCase(29, 24, 211, {3, 7, 1, 9});
  const Expected expected = ByLogprobs(c);
  c.hidden = c.hidden.detach();
  c.weight = c.weight.detach();
  for (const bool is_new : {false, true}) {
    at::Tensor buffer = at::ones({211, 24}, c.weight.options());
    if (is_new) buffer.fill_(std::nan(""));
    const auto out = FusedLinearLoss(c.hidden, c.weight, c.target, c.groups, SumOfGroups(c.groups),
                                     {.grad_weight_VH = buffer, .grad_weight_is_new = is_new});
    ExpectClose(out.loss, expected.loss);
    EXPECT_FALSE(out.loss.requires_grad());
    ExpectClose(is_new ? buffer : buffer - 1, expected.grad_weight);
  }
  at::Tensor untouched = at::ones({211, 24}, c.weight.options());
  const at::NoGradGuard no_grad;
  FusedLinearLoss(c.hidden, c.weight, c.target, c.groups, SumOfGroups(c.groups),
                  {.grad_weight_VH = untouched});
  EXPECT_TRUE(untouched.eq(1).all().item<bool>());
}

// What does not depend on the log-probabilities has no gradient.
TEST(FusedLinearLossTest, ALossOfNothingHasZeroGradients) {
  const Case c = MakeCase(9, 8, 33, {4, 2});
  const auto out = FusedLinearLoss(c.hidden, c.weight, c.target, c.groups, [](const auto& tokens) {
    return at::ones({}, tokens.logp_C.options().requires_grad(false));
  });
  const auto grads = torch::autograd::grad({out.loss}, {c.hidden, c.weight});
  EXPECT_EQ(grads[0].abs().sum().item<double>() + grads[1].abs().sum().item<double>(), 0);
}

void ExpectError(const Case& c, const GroupLoss& loss, const std::string& part) {
  try {
    FusedLinearLoss(c.hidden, c.weight, c.target, c.groups, loss);
    ADD_FAILURE() << "no error with " << part;
  } catch (const c10::Error& error) {
    EXPECT_NE(std::string(error.what_without_backtrace()).find(part), std::string::npos)
        << error.what_without_backtrace();
  }
}

TEST(FusedLinearLossTest, SaysWhatIsWrong) {
  const Case good = MakeCase(9, 8, 33, {4, 2});
  const GroupLoss loss = SumOfGroups(good.groups);
  Case c = good;
  c.groups.offsets_G1 = {0, 4, 5};
  ExpectError(c, loss, "groups.offsets");
  c.groups.offsets_G1 = {0, 7, 6};
  ExpectError(c, loss, "groups.offsets");
  c = good;
  c.groups.rows_M = good.groups.rows_M.to(at::kInt);
  ExpectError(c, loss, "groups.rows");
  c = good;
  c.weight = good.weight.detach().slice(1, 0, 7);
  ExpectError(c, loss, "weight");
  ExpectError(good, [](const auto& tokens) { return tokens.logp_C; }, "loss has shape");
  if (!kDevice.is_cpu()) return;
  c = good;
  c.target = at::full({9}, 33, at::kLong);
  ExpectError(c, loss, "is 33, expected a value in [0, 33)");
  c = good;
  c.groups.rows_M = at::tensor({0, 1, 2, 3, 4, 9}, at::kLong);
  ExpectError(c, loss, "groups.rows of shape [6] has 0 to 9, expected rows of hidden, [9, 8]");
}

}  // namespace
}  // namespace liger::kernels
