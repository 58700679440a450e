// grad_weight_is_new: the first product writes over what the buffer holds, the others add to it.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <functional>
#include <vector>

#include "kernels/fused_linear_cross_entropy/fused_linear_cross_entropy.h"
#include "kernels/fused_linear_jsd/fused_linear_jsd.h"
#include "kernels/fused_linear_logprob/fused_linear_logprob.h"
#include "kernels/fused_linear_loss/fused_linear_loss.h"
#include "test_device.h"

namespace liger::kernels {
namespace {

struct Inputs {
  at::Tensor hidden, weight, target;
};

Inputs Make(int64_t T, int64_t H, int64_t V, at::ScalarType dtype) {
  at::manual_seed(7);
  const auto leaf = [&](at::Tensor t) { return t.to(kDevice, dtype).requires_grad_(); };
  Inputs in{.hidden = leaf(at::randn({T, H})),
            .weight = leaf(at::randn({V, H})),
            .target = at::randint(V, {T}, at::kLong)};
  in.target.narrow(0, 1, T / 3).fill_(kIgnoreIndex);
  in.target = in.target.to(kDevice);
  return in;
}

// A head that adds its weight's gradient to `buffer` by the time it returns.
using Head = std::function<void(const Inputs& in, at::Tensor buffer, bool is_new)>;

struct Case {
  const char* name;
  Head head;
};

template <typename Options>
Options Into(at::Tensor buffer, bool is_new) {
  Options options;
  options.grad_weight_VH = std::move(buffer);
  options.grad_weight_is_new = is_new;
  return options;
}

void CrossEntropyHead(const Inputs& in, at::Tensor buffer, bool is_new) {
  FusedLinearCrossEntropy(in.hidden, in.weight, in.target, {},
                          Into<FusedLinearCrossEntropyOptions>(buffer, is_new));
}

void MappedCrossEntropyHead(const Inputs& in, at::Tensor buffer, bool is_new) {
  auto options = Into<FusedLinearCrossEntropyOptions>(buffer, is_new);
  options.softcap = 4;
  options.label_smoothing = 0.1;
  FusedLinearCrossEntropy(in.hidden, in.weight, in.target, {}, options);
}

void LogprobHead(const Inputs& in, at::Tensor buffer, bool is_new) {
  const auto out = FusedLinearLogprob(in.hidden, in.weight, in.target, {},
                                      Into<FusedLinearLogprobOptions>(buffer, is_new));
  torch::autograd::grad({out.logp_T.sum()}, {in.hidden});
}

void JsdHead(const Inputs& in, at::Tensor buffer, bool is_new) {
  FusedLinearJsd(in.hidden, in.weight, in.hidden.detach().flip(0), in.weight.detach().flip(0),
                 in.target, Into<FusedLinearJsdOptions>(buffer, is_new));
}

// Each token a group; an ignored one is in none. So few rows at once that there are several chunks
// where the other heads have them.
void LossHead(const Inputs& in, at::Tensor buffer, bool is_new) {
  TokenGroups groups{in.target.ne(kIgnoreIndex).nonzero().view(-1), {}};
  for (int64_t m = 0; m <= groups.rows_M.size(0); ++m) groups.offsets_G1.push_back(m);
  auto options = Into<FusedLinearLossOptions>(buffer, is_new);
  options.most_rows = 48;
  FusedLinearLoss(
      in.hidden, in.weight, in.target, groups,
      [](const GroupTokens& tokens) { return tokens.logp_C.square().sum(); }, options);
}

class NewGradientTest : public testing::TestWithParam<Case> {
 protected:
  static at::Tensor Buffer(const Inputs& in, double value) {
    return at::full(in.weight.sizes(), value, at::TensorOptions(kDevice).dtype(at::kFloat));
  }

  // Twice into a buffer of NaN, new at first, is twice into zeros. On a GPU the products may sum in
  // another order where they have nothing to add to.
  static void ExpectAsFromZeros(const Inputs& in) {
    at::Tensor expected = Buffer(in, 0), actual = Buffer(in, std::nan(""));
    for (const bool first : {true, false}) {
      GetParam().head(in, expected, /*is_new=*/false);
      GetParam().head(in, actual, /*is_new=*/first);
      ASSERT_FALSE(actual.isnan().any().item<bool>());
      EXPECT_GT(expected.abs().max().item<double>(), 0);
      if (kDevice.is_cpu()) {
        EXPECT_TRUE(actual.equal(expected)) << (actual - expected).abs().max().item<double>();
      } else {
        EXPECT_LE((actual - expected).norm().item<double>(),
                  1e-6 * expected.norm().item<double>());
      }
    }
  }
};

TEST_P(NewGradientTest, IsWrittenOverOnceAndThenAddedTo) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    ExpectAsFromZeros(Make(19, 24, 131, dtype));
  }
}

// 64 rows of so many logits a chunk on a CPU, 256 on a GPU; two thirds of the tokens count.
TEST_P(NewGradientTest, OnlyTheFirstChunkWritesOver) {
  ExpectAsFromZeros(kDevice.is_cpu() ? Make(102, 2, 131101, at::kFloat)
                                     : Make(450, 2, 1048576, at::kFloat));
}

TEST_P(NewGradientTest, WithoutValidRowsIsZero) {
  Inputs in = Make(9, 8, 33, at::kFloat);
  in.target.fill_(kIgnoreIndex);
  at::Tensor buffer = Buffer(in, std::nan(""));
  GetParam().head(in, buffer, /*is_new=*/true);
  EXPECT_TRUE(buffer.equal(Buffer(in, 0)));
  GetParam().head(in, buffer.fill_(2), /*is_new=*/false);
  EXPECT_TRUE(buffer.equal(Buffer(in, 2)));
}

INSTANTIATE_TEST_SUITE_P(Heads, NewGradientTest,
                         testing::Values(Case{"CrossEntropy", CrossEntropyHead},
                                         Case{"MappedCrossEntropy", MappedCrossEntropyHead},
                                         Case{"Logprob", LogprobHead}, Case{"Jsd", JsdHead},
                                         Case{"Loss", LossHead}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace liger::kernels
