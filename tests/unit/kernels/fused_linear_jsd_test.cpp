// What the op table does not ask of the fused distillation head.
#include "kernels/fused_linear_jsd/fused_linear_jsd.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "bad_input.h"
#include "kernels/divergence/divergence.h"

namespace liger::kernels {
namespace {

struct Heads {
  at::Tensor hidden, weight, teacher_hidden, teacher_weight, label;
};

Heads MakeHeads() {
  at::manual_seed(5);
  Heads heads{at::randn({9, 8}).requires_grad_(), at::randn({33, 8}).requires_grad_(),
              at::randn({9, 12}).requires_grad_(), at::randn({33, 12}).requires_grad_(),
              at::arange(9, at::kLong)};
  heads.label.narrow(0, 2, 3).fill_(kIgnoreIndex);
  return heads;
}

at::Tensor LossOf(const Heads& h, const FusedLinearJsdOptions& options = {}) {
  return FusedLinearJsd(h.hidden, h.weight, h.teacher_hidden, h.teacher_weight, h.label, options);
}

TEST(FusedLinearJsdTest, TeacherGetsNoGradient) {
  const Heads h = MakeHeads();
  const auto grads =
      torch::autograd::grad({LossOf(h)}, {h.hidden, h.weight, h.teacher_hidden, h.teacher_weight},
                            {}, false, false, /*allow_unused=*/true);
  EXPECT_TRUE(grads[0].defined());
  EXPECT_TRUE(grads[1].defined());
  EXPECT_FALSE(grads[2].defined());
  EXPECT_FALSE(grads[3].defined());
}

// Only what is needed is made; what is made is the same.
TEST(FusedLinearJsdTest, FrozenHeadAndFrozenBody) {
  const Heads h = MakeHeads();
  const auto all = torch::autograd::grad({LossOf(h)}, {h.hidden, h.weight});
  Heads head = h, body = h;
  head.weight = h.weight.detach();
  body.hidden = h.hidden.detach();
  EXPECT_TRUE(torch::autograd::grad({LossOf(head)}, {h.hidden})[0].equal(all[0]));
  EXPECT_TRUE(torch::autograd::grad({LossOf(body)}, {h.weight})[0].equal(all[1]));
}

TEST(FusedLinearJsdTest, UpstreamFactorAndSecondBackward) {
  const Heads h = MakeHeads();
  const at::Tensor loss = LossOf(h), three = at::full({}, 3.0f);
  const auto once = torch::autograd::grad({loss}, {h.hidden, h.weight}, {}, true);
  const auto thrice = torch::autograd::grad({loss}, {h.hidden, h.weight}, {three});
  for (size_t i = 0; i < 2; ++i) EXPECT_TRUE(at::allclose(thrice[i], once[i] * 3, 1e-6, 1e-9));
}

// Ignored rows are left out: labels and a batch without them give the same. No label: all count.
TEST(FusedLinearJsdTest, IgnoredRowsCountNothing) {
  const at::NoGradGuard no_grad;
  Heads h = MakeHeads(), kept = h;
  const at::Tensor rows = at::nonzero(h.label != kIgnoreIndex).view(-1);
  kept.hidden = h.hidden.index_select(0, rows);
  kept.teacher_hidden = h.teacher_hidden.index_select(0, rows);
  const at::Tensor no_label =
      FusedLinearJsd(kept.hidden, kept.weight, kept.teacher_hidden, kept.teacher_weight);
  EXPECT_TRUE(at::allclose(LossOf(h), no_label, 1e-6, 0));
  EXPECT_GT(no_label.item<float>(), 0);
  h.label.fill_(7);
  EXPECT_FALSE(at::allclose(LossOf(h), no_label, 1e-3, 0));
  EXPECT_EQ(LossOf(h, {.ignore_index = 7}).item<float>(), 0);
}

TEST(FusedLinearJsdTest, EqualHeadsAreAtZero) {
  const at::NoGradGuard no_grad;
  const Heads h = MakeHeads();
  for (const double beta : {0.0, 0.5, 1.0}) {
    EXPECT_NEAR(
        FusedLinearJsd(h.hidden, h.weight, h.hidden, h.weight, {}, {.beta = beta}).item<float>(), 0,
        1e-7);
  }
}

// The head's gradients are added into the buffers, the same as autograd's; the hidden's flows.
TEST(FusedLinearJsdTest, AddsTheHeadsGradientInForward) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const Heads all = MakeHeads();
    const auto leaf = [&](const at::Tensor& t) {
      return t.detach().to(dtype).requires_grad_(t.requires_grad());
    };
    const Heads h{leaf(all.hidden), leaf(all.weight), leaf(all.teacher_hidden),
                  leaf(all.teacher_weight), all.label};
    const at::Tensor bias = at::randn({33}).to(dtype).requires_grad_();
    FusedLinearJsdOptions options{.student_bias_V = bias,
                                  .teacher_bias_V = at::randn({33}).to(dtype)};
    const auto expected = torch::autograd::grad({LossOf(h, options)}, {h.hidden, h.weight, bias});
    options.grad_weight_VH = at::ones({33, 8});
    options.grad_bias_V = at::ones({33});
    const at::Tensor loss = LossOf(h, options);
    const double tolerance = dtype == at::kFloat ? 1e-6 : 8e-3;
    EXPECT_TRUE(
        at::allclose(*options.grad_weight_VH - 1, expected[1].to(at::kFloat), tolerance, 1e-6));
    EXPECT_TRUE(
        at::allclose(*options.grad_bias_V - 1, expected[2].to(at::kFloat), tolerance, 1e-6));
    loss.backward();
    // Autograd's is kept in float32 until its upstream gradient is in: with 16-bit states it comes
    // of gradients of the logits that are not rounded to them.
    const at::Tensor wide = expected[0].to(at::kDouble), apart = h.hidden.grad() - wide;
    EXPECT_LE(apart.norm().item<double>(),
              (dtype == at::kFloat ? 0 : 4e-3) * wide.norm().item<double>());
    EXPECT_FALSE(h.weight.grad().defined());
    EXPECT_FALSE(bias.grad().defined());
  }
}

TEST(FusedLinearJsdTest, BuffersWantAnUpstreamGradientOfOneAndTheWholeHead) {
  const Heads h = MakeHeads();
  const at::Tensor loss = LossOf(h, {.grad_weight_VH = at::zeros({33, 8})});
  EXPECT_THROW((loss * 2).backward(), c10::Error);
  const at::Tensor bias = at::zeros({33}).requires_grad_();
  EXPECT_THROW(LossOf(h, {.student_bias_V = bias, .grad_weight_VH = at::zeros({33, 8})}),
               c10::Error);
  const at::NoGradGuard no_grad;
  const at::Tensor untouched = at::zeros({33, 8});
  LossOf(h, {.grad_weight_VH = untouched});
  EXPECT_EQ(at::count_nonzero(untouched).item<int64_t>(), 0);
}

TEST(FusedLinearJsdTest, BadInput) {
  const at::Tensor x = Zeros({2, 3}), w = Zeros({9, 3}), y = Zeros({2, 5}), v = Zeros({9, 5});
  const std::string op = "fused_linear_jsd: ";
  ExpectMessages({
      {[=] {
         FusedLinearJsd(Zeros({2, 1, 3}), w, y, v);
       },
       {op + "student_hidden", "[2, 1, 3]"}},
      {[=] {
         FusedLinearJsd(x, Zeros({9, 4}), y, v);
       },
       {op + "student_weight", "[9, 4]", "[V, H] = [9, 3]"}},
      {[=] {
         FusedLinearJsd(x, Zeros({0, 3}), y, Zeros({0, 5}));
       },
       {op + "student_weight", "[0, 3]", "at least one element in dimension 0"}},
      {[=] {
         FusedLinearJsd(x, w, Zeros({3, 5}), v);
       },
       {op + "teacher_hidden", "[3, 5]", "[T, K] = [2, 5]"}},
      {[=] {
         FusedLinearJsd(x, w, y, Zeros({8, 5}));
       },
       {op + "teacher_weight", "[8, 5]", "[V, K] = [9, 5]"}},
      {[=] {
         FusedLinearJsd(x, w, Zeros({2, 5}, at::kBFloat16), v);
       },
       {op + "teacher_hidden", "BFloat16"}},
      {[=] {
         FusedLinearJsd(x, w, y, OnMeta({9, 5}));
       },
       {op + "teacher_weight", "meta"}},
      {[=] {
         FusedLinearJsd(Zeros({2, 3}, at::kLong), w, y, v);
       },
       {op + "student_hidden", "Long"}},
      {[=] { FusedLinearJsd(x, w, y, v, Target({1})); }, {op + "label", "[1]", "[T] = [2]"}},
      {[=] { FusedLinearJsd(x, w, y, v, Zeros({2})); }, {op + "label", "Float"}},
      {[=] { FusedLinearJsd(x, w, y, v, {}, {.beta = 2}); }, {op + "beta is 2"}},
      {[=] { FusedLinearJsd(x, w, y, v, {}, {.student_bias_V = Zeros({8})}); },
       {op + "student_bias", "[8]", "[V] = [9]"}},
      {[=] { FusedLinearJsd(x, w, y, v, {}, {.teacher_bias_V = Zeros({9}, at::kBFloat16)}); },
       {op + "teacher_bias", "BFloat16"}},
      {[=] {
         FusedLinearJsd(x, w, y, v, {}, {.grad_weight_VH = Zeros({9, 4})});
       },
       {op + "grad_weight", "[9, 4]", "[V, H] = [9, 3]"}},
      {[=] { FusedLinearJsd(x, w, y, v, {}, {.temperature = 0}); }, {op + "temperature is 0"}},
  });
}

}  // namespace
}  // namespace liger::kernels
