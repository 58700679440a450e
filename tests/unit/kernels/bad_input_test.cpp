// Wrong arguments end in one message that names the op, the argument and its shape.
#include "bad_input.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <string>
#include <vector>

#include "kernels/cross_entropy/cross_entropy.h"
#include "kernels/fused_linear_cross_entropy/fused_linear_cross_entropy.h"
#include "kernels/fused_linear_logprob/fused_linear_logprob.h"
#include "kernels/linear/linear.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rope/rope.h"
#include "kernels/swiglu/swiglu.h"

namespace liger::kernels {
namespace {

TEST(BadInputTest, Linear) {
  ExpectMessages({
      {[] {
         Linear(Zeros({2, 3}), Zeros({4, 5}));
       },
       {"linear: weight", "[4, 5]", "[4, 3]"}},
      {[] {
         Linear(Zeros({2, 3}), Zeros({3}));
       },
       {"linear: weight", "[3]"}},
      {[] {
         Linear(Zeros({2, 3}), Zeros({4, 3}, at::kDouble));
       },
       {"linear: weight", "Double"}},
      {[] {
         Linear(Zeros({2, 3}, at::kLong), Zeros({4, 3}));
       },
       {"linear: x", "Long", "[2, 3]"}},
      {[] {
         Linear(Zeros({2, 3}), Zeros({4, 3}), Zeros({5}));
       },
       {"linear: bias", "[5]", "[4]"}},
      {[] {
         Linear(Zeros({2, 3}), OnMeta({4, 3}));
       },
       {"linear: weight", "meta", "cpu"}},
  });
}

TEST(BadInputTest, RmsNorm) {
  ExpectMessages({
      {[] {
         RmsNorm(Zeros({2, 576}), Zeros({577}), 1e-5);
       },
       {"rms_norm: weight", "[577]", "[H] = [576]"}},
      {[] { RmsNorm(Zeros({}), Zeros({1}), 1e-5); }, {"rms_norm: x", "dimension"}},
      {[] {
         RmsNorm(Zeros({2, 0}), Zeros({0}), 1e-5);
       },
       {"rms_norm: x", "[2, 0]", "at least one element in dimension 1"}},
      {[] {
         RmsNorm(Zeros({2, 0}, at::kDouble), Zeros({0}, at::kDouble), 1e-5);
       },
       {"rms_norm: x", "[2, 0]"}},
      {[] {
         RmsNorm(Zeros({2, 4}, at::kInt), Zeros({4}), 1e-5);
       },
       {"rms_norm: x", "Int"}},
      {[] {
         RmsNorm(Zeros({2, 4}), Zeros({4}, at::kBFloat16), 1e-5);
       },
       {"rms_norm: weight", "BFloat16"}},
      {[] {
         RmsNorm(Zeros({2, 4}), OnMeta({4}), 1e-5);
       },
       {"rms_norm: weight", "meta"}},
      {[] {
         RmsNorm(Zeros({2, 4}), Zeros({4}), 0);
       },
       {"rms_norm: eps is 0"}},
      {[] {
         RmsNorm(Zeros({2, 4}), Zeros({4}), INFINITY);
       },
       {"rms_norm: eps is inf"}},
  });
}

TEST(BadInputTest, Rope) {
  const at::Tensor q = Zeros({5, 4, 8}), k = Zeros({5, 2, 8}), cos = Zeros({5, 8});
  ExpectMessages({
      {[=] {
         Rope(Zeros({5, 32}), k, cos, cos);
       },
       {"rope: q", "[5, 32]", "3 dimensions"}},
      {[=] {
         Rope(q, Zeros({5, 2, 6}), cos, cos);
       },
       {"rope: k", "[5, 2, 6]"}},
      {[=] {
         Rope(q, Zeros({4, 2, 8}), cos, cos);
       },
       {"rope: k", "[4, 2, 8]"}},
      {[=] {
         Rope(q, k, Zeros({6, 8}), cos);
       },
       {"rope: cos", "[6, 8]"}},
      {[=] {
         Rope(q, k, cos, Zeros({5, 6}));
       },
       {"rope: sin", "[5, 6]"}},
      {[=] {
         Rope(q, k, Zeros({5, 7}), Zeros({5, 7}));
       },
       {"rope: cos", "[5, 7]", "even"}},
      {[=] {
         Rope(q, k, Zeros({5, 10}), Zeros({5, 10}));
       },
       {"rope: cos", "[5, 10]", "at most"}},
      {[=] {
         Rope(q, k, Zeros({5, 8}, at::kDouble), cos);
       },
       {"rope: cos", "Double"}},
      {[=] {
         Rope(q, OnMeta({5, 2, 8}), cos, cos);
       },
       {"rope: k", "meta"}},
      {[=] {
         Rope(q, k, cos, cos, {1, 1, 2});
       },
       {"rope: cos", "[5, 8]", "3 dimensions"}},
      {[=] {
         Rope(q, k, Zeros({3, 5, 8}), Zeros({3, 5, 8}));
       },
       {"rope: cos", "[3, 5, 8]", "2 dimensions"}},
      {[=] {
         Rope(q, k, Zeros({3, 5, 8}), Zeros({3, 5, 8}), {2, 2, 2});
       },
       {"rope: mrope_section is [2, 2, 2]", "half", "8"}},
      {[=] {
         Rope(q, k, Zeros({3, 5, 8}), Zeros({3, 5, 8}), {2, 2});
       },
       {"rope: mrope_section is [2, 2]"}},
      {[=] {
         at::Tensor shared = Zeros({5, 1, 8}).expand({5, 4, 8}), own = Zeros({5, 2, 8});
         RopeInPlace(shared, own, cos, cos);
       },
       {"rope: q", "[5, 4, 8]", "share memory"}},
      {[=] {
         at::Tensor own = Zeros({5, 4, 8}), shared = Zeros({1, 2, 8}).expand({5, 2, 8});
         RopeInPlace(own, shared, cos, cos);
       },
       {"rope: k", "[5, 2, 8]", "share memory"}},
      {[=] {
         at::Tensor both = Zeros({5, 4, 8});
         RopeInPlace(both, both, cos, cos);
       },
       {"rope: q and k are one tensor", "[5, 4, 8]"}},
  });
}

// As in PyTorch: a product over nothing is the bias.
TEST(LinearTest, OfNoFeatures) {
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kDouble}) {
    const at::Tensor x = Zeros({4, 0}, dtype).requires_grad_();
    const at::Tensor w = Zeros({3, 0}, dtype).requires_grad_();
    const at::Tensor b = at::randn({3}).to(dtype).requires_grad_();
    const at::Tensor y = Linear(x, w, b);
    EXPECT_TRUE(y.equal(b.expand({4, 3}))) << dtype;
    const auto grads = torch::autograd::grad({y}, {x, w, b}, {at::ones_like(y)});
    EXPECT_EQ(grads[0].sizes(), x.sizes());
    EXPECT_EQ(grads[1].sizes(), w.sizes());
    EXPECT_TRUE(grads[2].equal(at::full({3}, 4, b.options().requires_grad(false)))) << dtype;
  }
}

TEST(BadInputTest, Swiglu) {
  ExpectMessages({
      {[] {
         Swiglu(Zeros({2, 3}), Zeros({2, 4}));
       },
       {"swiglu: up", "[2, 4]", "[2, 3]"}},
      {[] {
         Swiglu(Zeros({2, 3}), Zeros({2, 3}, at::kBFloat16));
       },
       {"swiglu: up", "BFloat16"}},
      {[] {
         Swiglu(Zeros({2, 3}, at::kLong), Zeros({2, 3}, at::kLong));
       },
       {"swiglu: gate", "Long"}},
      {[] {
         Swiglu(Zeros({2, 3}), OnMeta({2, 3}));
       },
       {"swiglu: up", "meta"}},
  });
}

TEST(BadInputTest, CrossEntropy) {
  ExpectMessages({
      {[] { CrossEntropy(Zeros({7}), Target({1})); }, {"cross_entropy: logits", "[7]"}},
      {[] {
         CrossEntropy(Zeros({2, 7}), Target({1}));
       },
       {"cross_entropy: target", "[1]", "[2]"}},
      {[] {
         CrossEntropy(Zeros({1, 7}), Zeros({1}, at::kInt));
       },
       {"cross_entropy: target", "Int"}},
      {[] {
         CrossEntropy(Zeros({3, 7}), Target({1, 2, 7}));
       },
       {"cross_entropy: target[2] is 7", "[0, 7)", "shape is [3]"}},
      {[] {
         CrossEntropy(Zeros({2, 7}), Target({-1, 0}));
       },
       {"cross_entropy: target[0] is -1"}},
      {[] {
         CrossEntropy(Zeros({1, 0}), Target({kIgnoreIndex}));
       },
       {"cross_entropy: logits", "[1, 0]", "at least one element in dimension 1"}},
      {[] {
         CrossEntropy(OnMeta({2, 7}), Target({1, 0}));
       },
       {"cross_entropy: target", "meta"}},
  });
}

// Both fused heads check alike.
TEST(BadInputTest, FusedHeads) {
  using Call = std::function<void(at::Tensor, at::Tensor, at::Tensor, std::optional<at::Tensor>)>;
  const Call flce = [](auto h, auto w, auto y, auto b) { FusedLinearCrossEntropy(h, w, y, b); };
  const Call logprob = [](auto h, auto w, auto y, auto b) { FusedLinearLogprob(h, w, y, b); };
  const std::vector<std::pair<std::string, Call>> heads = {{"fused_linear_cross_entropy: ", flce},
                                                           {"fused_linear_logprob: ", logprob}};
  const at::Tensor h = Zeros({2, 3}), w = Zeros({9, 3}), y = Target({1, 8});
  for (const auto& [name, call] : heads) {
    ExpectMessages({
        {[&] {
           call(Zeros({2, 1, 3}), w, y, {});
         },
         {name + "hidden", "[2, 1, 3]"}},
        {[&] {
           call(h, Zeros({9, 4}), y, {});
         },
         {name + "weight", "[9, 4]", "[9, 3]"}},
        {[&] {
           call(h, Zeros({9, 3}, at::kBFloat16), y, {});
         },
         {name + "weight", "BFloat16"}},
        {[&] {
           call(h, OnMeta({9, 3}), y, {});
         },
         {name + "weight", "meta"}},
        {[&] { call(h, w, Target({1}), {}); }, {name + "target", "[1]", "[2]"}},
        {[&] { call(h, w, Zeros({2}), {}); }, {name + "target", "Float"}},
        {[&] {
           call(h, w, Target({1, 9}), {});
         },
         {name + "target[1] is 9", "[0, 9)", "shape is [2]"}},
        {[&] {
           call(h, w, Target({-5, 1}), {});
         },
         {name + "target[0] is -5"}},
        {[&] { call(h, w, y, Zeros({8})); }, {name + "bias", "[8]", "[9]"}},
        {[&] {
           call(h, Zeros({0, 3}), y, {});
         },
         {name + "weight", "[0, 3]", "at least one element in dimension 0"}},
    });
  }
}

TEST(BadInputTest, GradientBuffers) {
  const at::Tensor h = Zeros({2, 3}).requires_grad_(true), w = Zeros({9, 3}), y = Target({1, 8});
  const auto with = [&](at::Tensor buffer) {
    FusedLinearCrossEntropy(h, w, y, std::nullopt, {.grad_weight_VH = buffer});
  };
  ExpectMessages({
      {[&] {
         with(Zeros({9, 4}));
       },
       {"grad_weight", "[9, 4]"}},
      {[&] {
         with(Zeros({9, 3}, at::kBFloat16));
       },
       {"grad_weight", "BFloat16"}},
      {[&] {
         with(Zeros({3, 9}).t());
       },
       {"grad_weight", "contiguous"}},
  });
}

}  // namespace
}  // namespace liger::kernels
