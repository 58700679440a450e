// As bad_input_test.cpp, for norms and activations.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>

#include "bad_input.h"
#include "kernels/dyt/dyt.h"
#include "kernels/embedding/embedding.h"
#include "kernels/fused_add_rms_norm/fused_add_rms_norm.h"
#include "kernels/geglu/geglu.h"
#include "kernels/group_norm/group_norm.h"
#include "kernels/layer_norm/layer_norm.h"
#include "kernels/softmax/softmax.h"

namespace liger::kernels {
namespace {

TEST(BadInputTest, Geglu) {
  ExpectMessages({
      {[] {
         Geglu(Zeros({2, 3}), Zeros({2, 4}));
       },
       {"geglu: up", "[2, 4]", "[2, 3]"}},
      {[] {
         Geglu(Zeros({2, 3}), Zeros({2, 3}, at::kBFloat16));
       },
       {"geglu: up", "BFloat16"}},
      {[] {
         Geglu(Zeros({2, 3}, at::kLong), Zeros({2, 3}, at::kLong));
       },
       {"geglu: gate", "Long"}},
      {[] {
         Geglu(Zeros({2, 3}), OnMeta({2, 3}));
       },
       {"geglu: up", "meta"}},
      {[] {
         static const auto op =
             c10::Dispatcher::singleton()
                 .findSchemaOrThrow("liger::geglu", "")
                 .typed<at::Tensor(const at::Tensor&, const at::Tensor&, c10::string_view)>();
         op.call(Zeros({2, 3}), Zeros({2, 3}), "erf");
       },
       {"geglu: approximate is 'erf'", "'tanh'"}},
  });
}

TEST(BadInputTest, FusedAddRmsNorm) {
  const at::Tensor x = Zeros({2, 4}), w = Zeros({4});
  const std::string op = "fused_add_rms_norm: ";
  ExpectMessages({
      {[=] {
         FusedAddRmsNorm(x, Zeros({2, 5}), w, 1e-5);
       },
       {op + "residual", "[2, 5]", "[2, 4]"}},
      {[=] {
         FusedAddRmsNorm(x, Zeros({2, 4}, at::kBFloat16), w, 1e-5);
       },
       {op + "residual", "BFloat16", "[2, 4]"}},
      {[=] {
         FusedAddRmsNorm(x, OnMeta({2, 4}), w, 1e-5);
       },
       {op + "residual", "meta"}},
      {[=] { FusedAddRmsNorm(x, x, Zeros({5}), 1e-5); }, {op + "weight", "[5]", "[H] = [4]"}},
      {[=] { FusedAddRmsNorm(Zeros({}), Zeros({}), w, 1e-5); }, {op + "x", "dimension"}},
      {[=] {
         FusedAddRmsNorm(Zeros({2, 0}), Zeros({2, 0}), Zeros({0}), 1e-5);
       },
       {op + "x", "[2, 0]", "at least one element in dimension 1"}},
      {[=] { FusedAddRmsNorm(x, x, w, 0); }, {op + "eps is 0"}},
  });
}

TEST(BadInputTest, LayerNorm) {
  const at::Tensor x = Zeros({2, 4}), w = Zeros({4});
  ExpectMessages({
      {[=] { LayerNorm(x, Zeros({5}), {}, 1e-5); }, {"layer_norm: weight", "[5]", "[H] = [4]"}},
      {[=] { LayerNorm(x, w, Zeros({5}), 1e-5); }, {"layer_norm: bias", "[5]", "[H] = [4]"}},
      {[=] { LayerNorm(x, w, Zeros({4}, at::kBFloat16), 1e-5); },
       {"layer_norm: bias", "BFloat16", "weight's Float"}},
      {[=] { LayerNorm(x, w, OnMeta({4}), 1e-5); }, {"layer_norm: bias", "meta"}},
      {[=] { LayerNorm(x, Zeros({4}, at::kHalf), {}, 1e-5); }, {"layer_norm: weight", "Half"}},
      {[=] {
         LayerNorm(Zeros({2, 4}, at::kInt), w, {}, 1e-5);
       },
       {"layer_norm: x", "Int"}},
      {[=] { LayerNorm(Zeros({}), w, {}, 1e-5); }, {"layer_norm: x", "dimension"}},
      {[=] {
         LayerNorm(Zeros({2, 0}), Zeros({0}), {}, 1e-5);
       },
       {"layer_norm: x", "[2, 0]", "at least one element in dimension 1"}},
      {[=] { LayerNorm(x, w, {}, -1); }, {"layer_norm: eps is -1"}},
  });
}

TEST(BadInputTest, GroupNorm) {
  const at::Tensor x = Zeros({2, 6, 5}), w = Zeros({6});
  ExpectMessages({
      {[=] { GroupNorm(x, 4, w, {}, 1e-5); },
       {"group_norm: num_groups is 4", "divisor of the 6", "[2, 6, 5]"}},
      {[=] { GroupNorm(x, 0, w, {}, 1e-5); }, {"group_norm: num_groups is 0", "[2, 6, 5]"}},
      {[=] { GroupNorm(x, 3, Zeros({5}), {}, 1e-5); }, {"group_norm: weight", "[5]", "[C] = [6]"}},
      {[=] { GroupNorm(x, 3, w, Zeros({5}), 1e-5); }, {"group_norm: bias", "[5]", "[C] = [6]"}},
      {[=] { GroupNorm(x, 3, w, Zeros({6}, at::kBFloat16), 1e-5); },
       {"group_norm: bias", "BFloat16", "weight's Float"}},
      {[=] { GroupNorm(x, 3, w, OnMeta({6}), 1e-5); }, {"group_norm: bias", "meta"}},
      {[=] { GroupNorm(x, 3, Zeros({6}, at::kHalf), {}, 1e-5); }, {"group_norm: weight", "Half"}},
      {[=] {
         GroupNorm(Zeros({2, 6}, at::kInt), 3, w, {}, 1e-5);
       },
       {"group_norm: x", "Int"}},
      {[=] { GroupNorm(Zeros({6}), 3, w, {}, 1e-5); }, {"group_norm: x", "[6]", "at least 2"}},
      {[=] { GroupNorm(x, 3, w, {}, 0); }, {"group_norm: eps is 0"}},
      {[=] {
         GroupNorm(Zeros({2, 6, 0}), 3, w, {}, 1e-5);
       },
       {"group_norm: x", "[2, 6, 0]", "at least one element in dimension 2"}},
      {[=] {
         GroupNorm(Zeros({2, 0, 5}), 3, Zeros({0}), {}, 1e-5);
       },
       {"group_norm: x", "[2, 0, 5]", "at least one element in dimension 1"}},
  });
}

TEST(BadInputTest, Softmax) {
  ExpectMessages({
      {[] { Softmax(Zeros({})); }, {"softmax: x", "dimension"}},
      {[] {
         Softmax(Zeros({2, 4}, at::kInt));
       },
       {"softmax: x", "Int", "[2, 4]"}},
  });
}

TEST(BadInputTest, Dyt) {
  const at::Tensor x = Zeros({2, 4}), a = Zeros({1}), w = Zeros({4});
  ExpectMessages({
      {[=] { Dyt(x, Zeros({2}), w, w); }, {"dyt: alpha", "[2]", "[1]"}},
      {[=] { Dyt(x, Zeros({}), w, w); }, {"dyt: alpha", "[1]"}},
      {[=] { Dyt(x, Zeros({1}, at::kBFloat16), w, w); },
       {"dyt: alpha", "BFloat16", "gamma's Float"}},
      {[=] { Dyt(x, OnMeta({1}), w, w); }, {"dyt: alpha", "meta"}},
      {[=] { Dyt(x, a, Zeros({5}), w); }, {"dyt: gamma", "[5]", "[H] = [4]"}},
      {[=] { Dyt(x, a, Zeros({4}, at::kHalf), w); }, {"dyt: gamma", "Half"}},
      {[=] { Dyt(x, a, w, Zeros({5})); }, {"dyt: beta", "[5]", "[H] = [4]"}},
      {[=] { Dyt(x, a, w, Zeros({4}, at::kHalf)); }, {"dyt: beta", "Half", "gamma's Float"}},
      {[=] {
         Dyt(Zeros({2, 4}, at::kInt), a, w, w);
       },
       {"dyt: x", "Int"}},
      {[=] { Dyt(Zeros({}), a, w, w); }, {"dyt: x", "dimension"}},
      {[=] {
         Dyt(Zeros({2, 0}), a, Zeros({0}), {});
       },
       {"dyt: x", "[2, 0]", "at least one element in dimension 1"}},
  });
}

TEST(BadInputTest, Embedding) {
  const at::Tensor ids = Target({0, 2}), w = Zeros({3, 4});
  ExpectMessages({
      {[=] { Embedding(Zeros({2}, at::kInt), w); }, {"embedding: ids", "Int", "[2]"}},
      {[=] { Embedding(ids, Zeros({3})); }, {"embedding: weight", "[3]", "2 dimensions"}},
      {[=] {
         Embedding(ids, Zeros({3, 4}, at::kLong));
       },
       {"embedding: weight", "Long"}},
      {[=] {
         Embedding(ids, OnMeta({3, 4}));
       },
       {"embedding: ids", "cpu", "meta"}},
      {[=] {
         Embedding(Target({0, 3}), w);
       },
       {"embedding: ids has 3 at position 1", "[0, 3)", "shape is [2]"}},
      {[=] { Embedding(Target({-1}), w); }, {"embedding: ids has -1 at position 0"}},
      {[=] { Embedding(ids, w, 3); }, {"embedding: padding_idx is 3", "[3, 4]"}},
      {[=] { Embedding(ids, w, -1); }, {"embedding: padding_idx is -1"}},
  });
}

}  // namespace
}  // namespace liger::kernels
