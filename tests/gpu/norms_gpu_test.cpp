// As kernels_gpu_test.cpp, for norms, gates and the embedding.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "gpu_test.h"
#include "kernels/dyt/dyt.h"
#include "kernels/embedding/embedding.h"
#include "kernels/fused_add_rms_norm/fused_add_rms_norm.h"
#include "kernels/geglu/geglu.h"
#include "kernels/group_norm/group_norm.h"
#include "kernels/layer_norm/layer_norm.h"
#include "kernels/path.h"
#include "kernels/softmax/softmax.h"

namespace liger::kernels {
namespace {

using Tensors = std::vector<at::Tensor>;
using OpFn = std::function<Tensors(const Tensors&)>;

at::Tensor Ids(at::IntArrayRef values) { return at::tensor(values, at::kLong).to(kGpu); }

// Outputs and gradients of all inputs, with these upstream gradients.
Tensors RunOp(const OpFn& op, const Tensors& inputs, const Tensors& upstream) {
  Tensors leaves;
  for (const at::Tensor& t : inputs) leaves.push_back(t.detach().clone().requires_grad_());
  Tensors results = op(leaves);
  for (const at::Tensor& g : torch::autograd::grad(results, leaves, upstream)) {
    results.push_back(g);
  }
  return results;
}

// Against the float64 run on the CPU.
void ExpectClose(const OpFn& op, const Tensors& inputs, const Tensors& upstream, double tolerance) {
  const auto exact = [](const Tensors& in) {
    Tensors out;
    for (const at::Tensor& t : in) out.push_back(t.to(at::kCPU, at::kDouble));
    return out;
  };
  const Tensors ours = RunOp(op, inputs, upstream);
  const Tensors expected = RunOp(op, exact(inputs), exact(upstream));
  for (size_t i = 0; i < ours.size(); ++i) {
    EXPECT_LT(RelativeError(ours[i].detach(), expected[i].detach()), tolerance)
        << "result " << i << " of row length " << inputs[0].size(-1) << ", "
        << inputs[0].scalar_type() << ", weight " << inputs.back().scalar_type();
  }
}

// Rows that fill registers, that do not fit, that are not whole packs; float32 weights.
void ForEveryLength(const std::function<void(int64_t H, at::ScalarType, at::ScalarType)>& check) {
  at::manual_seed(3);
  for (const int64_t H : {8, 33, 576, 1000, 2048, 4096, 4104, 8192, 16384, 20000, 70001}) {
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      check(H, dtype, dtype);
      if (dtype != at::kFloat) check(H, dtype, at::kFloat);
    }
  }
}

double Tolerance(at::ScalarType dtype) { return dtype == at::kFloat ? 3e-6 : 6e-3; }

TEST(NormsGpuTest, OurKernelsRun) {
  ClearPathsRan();
  const at::Tensor x = Randn({4, 64}, at::kBFloat16), w = Randn({64}, at::kBFloat16);
  Geglu(x, x);
  FusedAddRmsNorm(x, x, w, 1e-5);
  LayerNorm(x, w, w, 1e-5);
  Embedding(Ids({0, 3}), x);
  GroupNorm(x, 8, w, w, 1e-5);
  Softmax(x);
  Dyt(x, w.narrow(0, 0, 1), w, w);
  for (const PathRan& ran : PathsRan()) EXPECT_EQ(ran.path, Path::kCuda) << ran.op;
  EXPECT_EQ(PathsRan().size(), 7u);
}

TEST(NormsGpuTest, LayerNormOfEveryLength) {
  ForEveryLength([](int64_t H, at::ScalarType dtype, at::ScalarType weight_dtype) {
    const OpFn op = [](const Tensors& in) -> Tensors {
      return {LayerNorm(in[0], in[1], in[2], 1e-5)};
    };
    ExpectClose(op, {Randn({37, H}, dtype), Randn({H}, weight_dtype), Randn({H}, weight_dtype)},
                {Randn({37, H}, dtype)}, Tolerance(dtype));
  });
}

TEST(NormsGpuTest, SoftmaxOfEveryLength) {
  ForEveryLength([](int64_t H, at::ScalarType dtype, at::ScalarType weight_dtype) {
    if (weight_dtype != dtype) return;
    const OpFn op = [](const Tensors& in) -> Tensors { return {Softmax(in[0])}; };
    ExpectClose(op, {Randn({37, H}, dtype)}, {Randn({37, H}, dtype)}, Tolerance(dtype));
  });
  const float inf = std::numeric_limits<float>::infinity();
  at::Tensor x = Randn({3, 64}, at::kFloat);
  x[0][5] = -inf;
  x[1].fill_(-inf);
  x[2][7] = std::nanf("");
  const at::Tensor y = Softmax(x);
  EXPECT_EQ(y[0][5].item<float>(), 0);
  EXPECT_NEAR(y[0].sum().item<float>(), 1, 1e-6);
  EXPECT_TRUE(y.narrow(0, 1, 2).isnan().all().item<bool>());
}

TEST(NormsGpuTest, DytOfEveryLength) {
  ForEveryLength([](int64_t H, at::ScalarType dtype, at::ScalarType weight_dtype) {
    const OpFn op = [](const Tensors& in) -> Tensors { return {Dyt(in[0], in[1], in[2], in[3])}; };
    const at::Tensor alpha = at::full({1}, 0.75, at::TensorOptions(kGpu).dtype(weight_dtype));
    for (const int64_t rows : {1, 37, 3000}) {
      if (rows * H > 30000000) continue;
      ExpectClose(
          op, {Randn({rows, H}, dtype), alpha, Randn({H}, weight_dtype), Randn({H}, weight_dtype)},
          {Randn({rows, H}, dtype)}, 4 * Tolerance(dtype));
    }
  });
}

// Channels of less than a pack, of a few, of whole pieces and not; groups that one block holds,
// that a cluster holds, and that are too large; float32 weights.
TEST(NormsGpuTest, GroupNormOfEveryLength) {
  ForEveryLength([](int64_t L, at::ScalarType dtype, at::ScalarType weight_dtype) {
    for (const int64_t groups : {1, 3, 12}) {
      const OpFn op = [=](const Tensors& in) -> Tensors {
        return {GroupNorm(in[0], groups, in[1], in[2], 1e-5)};
      };
      const int64_t C = 12;
      ExpectClose(op, {Randn({3, C, L}, dtype), Randn({C}, weight_dtype), Randn({C}, weight_dtype)},
                  {Randn({3, C, L}, dtype)}, Tolerance(dtype));
    }
  });
}

// [N, C], more channels than teams, and x that starts within a pack.
TEST(NormsGpuTest, GroupNormOfSingleElementsAndUnaligned) {
  const OpFn op = [](const Tensors& in) -> Tensors {
    return {GroupNorm(in[0], 4, in[1], in[2], 1e-5)};
  };
  const at::Tensor w = Randn({4096}, at::kFloat), b = Randn({4096}, at::kFloat);
  ExpectClose(op, {Randn({9, 4096}, at::kFloat), w, b}, {Randn({9, 4096}, at::kFloat)}, 3e-6);
  const at::Tensor storage = Randn({3 * 4096 * 8 + 1}, at::kFloat);
  const at::Tensor x = storage.narrow(0, 1, 3 * 4096 * 8).view({3, 4096, 8});
  const at::Tensor y = GroupNorm(x, 4, w, b, 1e-5);
  EXPECT_LT(RelativeError(y, GroupNorm(x.to(at::kCPU, at::kDouble), 4, w.to(at::kCPU, at::kDouble),
                                       b.to(at::kCPU, at::kDouble), 1e-5)),
            3e-6);
}

TEST(NormsGpuTest, FusedAddRmsNormOfEveryLength) {
  ForEveryLength([](int64_t H, at::ScalarType dtype, at::ScalarType weight_dtype) {
    const OpFn op = [](const Tensors& in) -> Tensors {
      auto [y, sum] = FusedAddRmsNorm(in[0], in[1], in[2], 1e-5);
      return {y, sum};
    };
    ExpectClose(op, {Randn({37, H}, dtype), Randn({37, H}, dtype), Randn({H}, weight_dtype)},
                {Randn({37, H}, dtype), Randn({37, H}, dtype)}, Tolerance(dtype));
  });
}

// More rows than blocks, so that every stage of the pipeline is used again.
TEST(NormsGpuTest, EqualRunsGiveEqualBits) {
  const at::Tensor x = Randn({5000, 1024}, at::kBFloat16), dy = Randn({5000, 1024}, at::kBFloat16);
  const at::Tensor w = Randn({1024}, at::kBFloat16), b = Randn({1024}, at::kBFloat16);
  const at::Tensor ids = at::randint(50, {5000}, at::TensorOptions(kGpu).dtype(at::kLong));
  const std::vector<std::function<Tensors()>> runs = {
      [&] {
        return RunOp(
            [](const Tensors& in) -> Tensors { return {LayerNorm(in[0], in[1], in[2], 1e-5)}; },
            {x, w, b}, {dy});
      },
      [&] {
        return RunOp(
            [](const Tensors& in) -> Tensors {
              auto [y, sum] = FusedAddRmsNorm(in[0], in[1], in[2], 1e-5);
              return {y, sum};
            },
            {x, dy, w}, {dy, x});
      },
      [&] {
        return RunOp(
            [](const Tensors& in) -> Tensors {
              return {Softmax(in[0]), Dyt(in[0], in[1].narrow(0, 0, 1), in[1], in[2])};
            },
            {x, w, b}, {dy, dy});
      },
      // In one block, in clusters, split.
      [&] {
        return RunOp(
            [&](const Tensors& in) -> Tensors {
              const auto norm = [&](at::IntArrayRef shape, int64_t groups) {
                const int64_t C = shape[1];
                return GroupNorm(in[0].reshape(shape), groups, in[1].narrow(0, 0, C),
                                 in[2].narrow(0, 0, C), 1e-5);
              };
              return {norm({625, 1024, 8}, 8), norm({50, 100, 1024}, 1), norm({2, 2, 1280000}, 1)};
            },
            {x, w, b},
            {dy.view({625, 1024, 8}), dy.view({50, 100, 1024}), dy.view({2, 2, 1280000})});
      },
      [&] {
        return RunOp([&](const Tensors& in) -> Tensors { return {Embedding(ids, in[0])}; },
                     {x.narrow(0, 0, 50)}, {dy});
      }};
  for (size_t i = 0; i < runs.size(); ++i) {
    const Tensors a = runs[i](), b_run = runs[i]();
    for (size_t j = 0; j < a.size(); ++j) EXPECT_TRUE(a[j].equal(b_run[j])) << i << " " << j;
  }
}

// Ids that come often, never, and the padding; rows that are whole packs and that are not; more ids
// than are looked through.
TEST(NormsGpuTest, EmbeddingGradientOfSkewedIds) {
  const std::pair<int64_t, int64_t> sizes[] = {{3000, 1},    {3000, 24},  {3000, 77},
                                               {3000, 4096}, {32768, 24}, {40000, 77}};
  for (const auto& [T, H] : sizes) {
    const int64_t V = 1000;
    at::Tensor ids = at::randint(V, {T}, at::TensorOptions(kGpu).dtype(at::kLong));
    ids.narrow(0, 0, T / 2).fill_(7);
    ids.narrow(0, T / 2, 100).fill_(3);
    const at::Tensor weight = Randn({V, H}, at::kBFloat16).requires_grad_();
    const at::Tensor dy = Randn({T, H}, at::kBFloat16);
    const at::Tensor grad =
        torch::autograd::grad({Embedding(ids, weight, /*padding_idx=*/3)}, {weight}, {dy})[0];
    at::Tensor expected = at::zeros({V, H}, at::kDouble);
    expected.index_add_(0, ids.cpu(), dy.to(at::kCPU, at::kDouble));
    expected[3].zero_();
    EXPECT_LT(RelativeError(grad, expected), 3e-3) << T << " " << H;
    EXPECT_EQ(grad[3].abs().sum().item<float>(), 0);
  }
}

// An id outside the table is never read: its row is NaN, and no gradient comes from it.
TEST(NormsGpuTest, IdOutOfRange) {
  // Without kernels of ours: float64.
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    SCOPED_TRACE(dtype);
    const at::Tensor weight = Randn({10, 16}, dtype).requires_grad_();
    const at::Tensor ids = Ids({2, -1, 10, int64_t{1} << 40, (int64_t{1} << 32) + 5, 2});
    const at::Tensor y = Embedding(ids, weight);
    EXPECT_TRUE(y.narrow(0, 1, 4).isnan().all().item<bool>());
    EXPECT_TRUE(y[0].equal(weight[2]));
    const at::Tensor grad = torch::autograd::grad({y}, {weight}, {at::ones_like(y)})[0];
    EXPECT_EQ(grad.sum().item<float>(), 32);
    EXPECT_EQ(grad[2].sum().item<float>(), 32);
  }
}

}  // namespace
}  // namespace liger::kernels
