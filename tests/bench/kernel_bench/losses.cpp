// Losses of logits and of log-probabilities that stand in memory.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <string>

#include "kernels/cross_entropy/cross_entropy.h"
#include "kernels/divergence/divergence.h"
#include "tests/bench/kernel_bench/bench.h"

namespace liger::kernels::bench {
namespace {

void CrossEntropies(Bench& bench) {
  const int64_t V = 128256;
  const at::Tensor logits = Leaf(Randn({8192, V})), target = Targets(8192, V);
  const at::Tensor one = at::ones({}, at::TensorOptions(kGpu).dtype(at::kFloat));
  bench.Bytes("cross_entropy full 8192x128256", 2.0 * static_cast<double>(logits.nbytes()), [&] {
    const at::Tensor loss = CrossEntropy(logits, target, 1.0 / 8192);
    torch::autograd::grad({loss}, {logits}, {one});
  });
  at::Tensor in_place = logits.detach().clone();
  bench.Bytes("cross_entropy in place 8192x128256", 2.0 * static_cast<double>(logits.nbytes()),
              [&] { CrossEntropyAndGradInPlace(in_place, target, 1.0); });
}

void LossOptions(Bench& bench) {
  const int64_t T = 8192, V = 128256;
  const at::Tensor logits = Leaf(Randn({T, V})), target = Targets(T, V);
  const double passes = 2.0 * static_cast<double>(logits.nbytes());
  const auto full = [&](const std::string& name, const CrossEntropyOptions& options) {
    bench.Bytes("cross_entropy " + name + " full 8192x128256", passes, [&] {
      const at::Tensor loss = CrossEntropyWithOptions(logits, target, options).loss;
      torch::autograd::grad({loss}, {logits});
    });
  };
  full("smoothed", {.label_smoothing = 0.1});
  full("z-loss", {.lse_square_scale = 1e-4});
  full("softcap", {.softcap = 30});
  const at::Tensor weight = at::ones({V}, at::TensorOptions(kGpu).dtype(at::kFloat));
  const CrossEntropyOptions all{.label_smoothing = 0.1,
                                .softcap = 30,
                                .lse_square_scale = 1e-4,
                                .class_weight_V = weight,
                                .token_stats = true};
  full("all options", all);
  at::Tensor in_place = logits.detach().clone();
  bench.Bytes("cross_entropy all options in place 8192x128256", passes,
              [&] { CrossEntropyWithOptionsAndGradInPlace(in_place, target, all); });
}

// Loss and gradient of divergences; bytes as three passes over one of the tensors.
void Divergences(Bench& bench) {
  const auto run = [&](const std::string& name, int64_t N, int64_t V, at::ScalarType dtype,
                       const std::function<at::Tensor(const at::Tensor&, const at::Tensor&)>& op) {
    const std::string full =
        name + " full " + std::to_string(N) + "x" + std::to_string(V) + " " + c10::toString(dtype);
    if (!bench.Wants(full)) return;
    const at::Tensor x = Leaf(at::log_softmax(Randn({N, V}, dtype), 1));
    const at::Tensor y = at::log_softmax(Randn({N, V}, dtype), 1);
    bench.Bytes(full, 3.0 * static_cast<double>(x.nbytes()),
                [&] { torch::autograd::grad({op(x, y)}, {x}); });
  };
  for (const auto dtype : {at::kBFloat16, at::kFloat}) {
    run("kl_div", 8192, 32064, dtype,
        [](const auto& x, const auto& y) { return KlDiv(x, y, {.log_target = true}); });
    // The values do not matter: any numbers take the same time.
    run("tvd", 8192, 32064, dtype, [](const auto& x, const auto& y) { return Tvd(x, y); });
    run("jsd", 4096, 64128, dtype, [](const auto& x, const auto& y) { return Jsd(x, y); });
  }
}

}  // namespace

void Losses(Bench& bench) {
  CrossEntropies(bench);
  LossOptions(bench);
  Divergences(bench);
}

}  // namespace liger::kernels::bench
