// Ops whose rows have nothing to do with each other: bound by what they move.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <string>
#include <vector>

#include "kernels/dyt/dyt.h"
#include "kernels/embedding/embedding.h"
#include "kernels/fused_add_rms_norm/fused_add_rms_norm.h"
#include "kernels/geglu/geglu.h"
#include "kernels/group_norm/group_norm.h"
#include "kernels/layer_norm/layer_norm.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rope/rope.h"
#include "kernels/softmax/softmax.h"
#include "kernels/swiglu/swiglu.h"
#include "tests/bench/kernel_bench/bench.h"

namespace liger::kernels::bench {
namespace {

void Norms(Bench& bench) {
  const int64_t T = 16384;
  for (const int64_t H : {2048, 4096, 8192}) {
    const at::Tensor x = Leaf(Randn({T, H})), w = Leaf(Randn({H})), dy = Randn({T, H});
    const double pass = static_cast<double>(x.nbytes());
    const std::string shape = " " + std::to_string(T) + "x" + std::to_string(H);
    bench.Bytes("rms_norm fwd" + shape, 2 * pass, [&] {
      const at::NoGradGuard no_grad;
      RmsNorm(x, w, 1e-5);
    });
    const at::Tensor y = RmsNorm(x, w, 1e-5);
    bench.Bytes("rms_norm bwd" + shape, 3 * pass, [&] { Grad(y, {x, w}, dy); });
    const at::Tensor residual = Leaf(Randn({T, H})), dsum = Randn({T, H});
    bench.Bytes("fused_add_rms_norm fwd" + shape, 4 * pass, [&] {
      const at::NoGradGuard no_grad;
      FusedAddRmsNorm(x, residual, w, 1e-5);
    });
    const auto added = FusedAddRmsNorm(x, residual, w, 1e-5);
    bench.Bytes("fused_add_rms_norm bwd" + shape, 4 * pass, [&] {
      torch::autograd::grad({added.first, added.second}, {x, residual, w}, {dy, dsum},
                            /*retain_graph=*/true);
    });
    const at::Tensor b = Leaf(Randn({H}));
    bench.Bytes("layer_norm fwd" + shape, 2 * pass, [&] {
      const at::NoGradGuard no_grad;
      LayerNorm(x, w, b, 1e-5);
    });
    const at::Tensor normed = LayerNorm(x, w, b, 1e-5);
    bench.Bytes("layer_norm bwd" + shape, 3 * pass, [&] { Grad(normed, {x, w, b}, dy); });
  }
}

// Groups of 4 channels, as liger-kernel's benchmark has them, and 32 groups.
void GroupNorms(Bench& bench) {
  const int64_t N = 64, C = 512, L = 4096;
  const at::Tensor x = Leaf(Randn({N, C, L})), w = Leaf(Randn({C})), b = Leaf(Randn({C}));
  const at::Tensor dy = Randn({N, C, L});
  const double pass = static_cast<double>(x.nbytes());
  for (const int64_t groups : {128, 32}) {
    const std::string shape = " 64x512x4096 in " + std::to_string(groups) + " groups";
    bench.Bytes("group_norm fwd" + shape, 2 * pass, [&] {
      const at::NoGradGuard no_grad;
      GroupNorm(x, groups, w, b, 1e-5);
    });
    const at::Tensor y = GroupNorm(x, groups, w, b, 1e-5);
    bench.Bytes("group_norm bwd" + shape, 3 * pass, [&] { Grad(y, {x, w, b}, dy); });
    bench.Bytes("group_norm full" + shape, 5 * pass, [&] {
      torch::autograd::grad({GroupNorm(x, groups, w, b, 1e-5)}, {x, w, b}, {dy});
    });
  }
}

void SoftmaxAndDyt(Bench& bench) {
  const int64_t T = 16384;
  for (const int64_t H : {2048, 4096, 8192}) {
    const at::Tensor x = Leaf(Randn({T, H})), w = Leaf(Randn({H})), b = Leaf(Randn({H}));
    const at::Tensor alpha = Leaf(at::full({1}, 0.5, w.options().requires_grad(false)));
    const at::Tensor dy = Randn({T, H});
    const double pass = static_cast<double>(x.nbytes());
    const std::string shape = " " + std::to_string(T) + "x" + std::to_string(H);
    const auto rows = [&](const std::string& name, const std::vector<at::Tensor>& inputs,
                          const std::function<at::Tensor()>& op) {
      bench.Bytes(name + " fwd" + shape, 2 * pass, [&] {
        const at::NoGradGuard no_grad;
        op();
      });
      const at::Tensor y = op();
      bench.Bytes(name + " bwd" + shape, 3 * pass, [&] { Grad(y, inputs, dy); });
    };
    rows("softmax", {x}, [&] { return Softmax(x); });
    rows("dyt", {x, alpha, w, b}, [&] { return Dyt(x, alpha, w, b); });
  }
}

void Elementwise(Bench& bench) {
  {
    const at::Tensor g = Leaf(Randn({16384, 14336})), u = Leaf(Randn({16384, 14336}));
    const at::Tensor dy = Randn({16384, 14336});
    const double pass = static_cast<double>(g.nbytes());
    bench.Bytes("swiglu full 16384x14336", 8 * pass, [&] {
      const at::Tensor y = Swiglu(g, u);
      torch::autograd::grad({y}, {g, u}, {dy});
    });
    bench.Bytes("geglu tanh full 16384x14336", 8 * pass, [&] {
      const at::Tensor y = Geglu(g, u, GeluApproximate::kTanh);
      torch::autograd::grad({y}, {g, u}, {dy});
    });
    bench.Bytes("geglu exact full 16384x14336", 8 * pass, [&] {
      const at::Tensor y = Geglu(g, u);
      torch::autograd::grad({y}, {g, u}, {dy});
    });
  }
  {
    const int64_t T = 16384;
    const at::Tensor q = Leaf(Randn({T, 32, 128})), k = Leaf(Randn({T, 8, 128}));
    const at::Tensor dq = Randn({T, 32, 128}), dk = Randn({T, 8, 128});
    const at::Tensor cos = Randn({T, 128}), sin = Randn({T, 128});
    const double pass = static_cast<double>(q.nbytes() + k.nbytes());
    bench.Bytes("rope full 16384x(32+8)x128", 4 * pass, [&] {
      const auto [a, b] = Rope(q, k, cos, sin);
      torch::autograd::grad({a, b}, {q, k}, {dq, dk});
    });
  }
}

// The gradient is dense: V rows are written once, T are read.
void Embeddings(Bench& bench) {
  const int64_t T = 16384, V = 128256, H = 4096;
  const at::Tensor weight = Leaf(Randn({V, H})), ids = Targets(T, V), dy = Randn({T, H});
  const double pass = static_cast<double>(dy.nbytes());
  bench.Bytes("embedding full 16384x128256x4096", 3 * pass + static_cast<double>(weight.nbytes()),
              [&] {
                const at::Tensor y = Embedding(ids, weight);
                torch::autograd::grad({y}, {weight}, {dy});
              });
}

}  // namespace

void RowWise(Bench& bench) {
  Norms(bench);
  GroupNorms(bench);
  SoftmaxAndDyt(bench);
  Elementwise(bench);
  Embeddings(bench);
}

}  // namespace liger::kernels::bench
