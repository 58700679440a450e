// Linear heads and their losses against their own matrix products.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <functional>
#include <string>

#include "kernels/fused_linear_cross_entropy/fused_linear_cross_entropy.h"
#include "kernels/fused_linear_jsd/fused_linear_jsd.h"
#include "kernels/fused_linear_logprob/fused_linear_logprob.h"
#include "kernels/fused_linear_loss/fused_linear_loss.h"
#include "tests/bench/kernel_bench/bench.h"

namespace liger::kernels::bench {
namespace {

// What a head does with its float32 buffer of the weight's gradient: writes it over, as the first
// micro-batch of a step does, or adds to what the ones before have left there.
const std::string kNew = " new dW", kAdded = " added dW";

void TokenHeads(Bench& bench, int64_t T) {
  const int64_t V = 128256, H = 4096, C = std::min<int64_t>(T, 2048);
  const std::string shape =
      " " + std::to_string(T) + "x" + std::to_string(H) + "x" + std::to_string(V);
  const at::Tensor hidden = Leaf(Randn({T, H}) * 0.02), weight = Leaf(Randn({V, H}));
  const at::Tensor target = Targets(T, V);
  at::Tensor acc = at::zeros({V, H}, at::TensorOptions(kGpu).dtype(at::kFloat));
  at::Tensor logits = at::empty({C, V}, hidden.options()), dx = at::empty({C, H}, hidden.options());
  at::Tensor dw = at::empty({V, H}, hidden.options());
  // The same products without chunks of the weight's gradient: what a single pass would take.
  const auto products = [&](int forwards) {
    const at::NoGradGuard no_grad;
    for (int64_t t = 0; t < T; t += C) {
      const at::Tensor x = hidden.narrow(0, t, C);
      for (int i = 0; i < forwards; ++i) at::mm_out(logits, x, weight.t());
      at::mm_out(dx, logits, weight);
      at::mm_out(dw, logits.t(), x);
    }
  };
  FusedLinearCrossEntropyOptions options{.scale = 1.0 / static_cast<double>(T)};
  options.grad_weight_VH = acc;
  options.grad_weight_is_new = true;
  const auto cross_entropy = [&](const std::string& name, const auto& with) {
    bench.Products(
        "fused_linear_cross_entropy" + name + shape, [&] { products(1); },
        [&] {
          const auto out = FusedLinearCrossEntropy(hidden, weight, target, {}, with);
          torch::autograd::grad({out.loss}, {hidden});
        });
  };
  FusedLinearCrossEntropyOptions added = options, capped = options, smoothed = options;
  added.grad_weight_is_new = false;
  cross_entropy(kNew, options);
  cross_entropy(kAdded, added);
  capped.softcap = 30;
  smoothed.label_smoothing = 0.1;
  smoothed.lse_square_scale = 1e-4;
  cross_entropy(kNew + " softcap", capped);
  cross_entropy(kNew + " smoothing z-loss", smoothed);
  FusedLinearLogprobOptions logprob;
  logprob.grad_weight_VH = acc;
  const at::Tensor upstream = Randn({T}, at::kFloat);
  for (const bool is_new : {true, false}) {
    logprob.grad_weight_is_new = is_new;
    bench.Products(
        "fused_linear_logprob" + (is_new ? kNew : kAdded) + shape, [&] { products(2); },
        [&] {
          const auto out = FusedLinearLogprob(hidden, weight, target, {}, logprob);
          torch::autograd::grad({out.logp_T}, {hidden}, {upstream});
        });
  }
}

// The heads of preference objectives over 16 answers of 1024 tokens, chosen and rejected ones of 8
// pairs (KTO: 16 rows), by the composite; DPO and KTO with a reference's log-probabilities.
void PreferenceHeads(Bench& bench) {
  const int64_t S = 16, L = 1024, T = S * L, V = 128256, H = 4096, C = 2048;
  const double beta = 0.1;
  const std::string shape = "_head composite 16x1024x4096x128256";
  const auto wants = [&](const std::string& name) {
    return bench.Wants(name + shape + kNew) || bench.Wants(name + shape + kAdded);
  };
  if (!wants("dpo") && !wants("orpo") && !wants("kto")) return;
  const at::Tensor hidden = Leaf(Randn({T, H})), weight = Leaf(Randn({V, H}) * 0.02);
  const at::Tensor ref_hidden = Randn({T, H}), ref_weight = Randn({V, H}) * 0.02;
  const at::Tensor target = Targets(T, V);
  at::Tensor acc = at::zeros({V, H}, at::TensorOptions(kGpu).dtype(at::kFloat));
  at::Tensor logits = at::empty({C, V}, hidden.options().requires_grad(false));
  at::Tensor dx = at::empty({C, H}, logits.options()), dw = at::empty({V, H}, logits.options());
  const auto products = [&](bool reference) {
    const at::NoGradGuard no_grad;
    for (int64_t t = 0; t < T; t += C) {
      const at::Tensor x = hidden.narrow(0, t, C);
      at::mm_out(logits, x, weight.t());
      if (reference) at::mm_out(logits, ref_hidden.narrow(0, t, C), ref_weight.t());
      at::mm_out(dx, logits, weight);
      at::mm_out(dw, logits.t(), x);
    }
  };
  const auto reference = [&] {
    const at::NoGradGuard no_grad;
    return FusedLinearLogprob(ref_hidden, ref_weight, target).logp_T.view({S, L}).sum(1);
  };
  // Sequences of pair p: p and S / 2 + p; side by side in its group.
  const auto log_sums = [&](const GroupTokens& tokens) {
    return tokens.logp_C.view({-1, L}).sum(1);
  };
  const auto run = [&](const std::string& name, int64_t per_group, bool with_reference,
                       const std::function<at::Tensor(const at::Tensor&, const at::Tensor&)>& fn) {
    TokenGroups groups;
    const at::Tensor order = at::arange(T, target.options()).view({2, S / 2, L});
    groups.rows_M = (per_group == 2 ? order.transpose(0, 1) : order).reshape({T});
    for (int64_t t = 0; t <= T; t += per_group * L) groups.offsets_G1.push_back(t);
    FusedLinearLossOptions options;
    options.grad_weight_VH = acc;
    const auto step = [&] {
      at::Tensor ref;
      if (with_reference) ref = reference();
      const auto loss = [&](const GroupTokens& tokens) {
        const at::Tensor sums = log_sums(tokens);
        const int64_t first = tokens.begin * per_group;
        return fn(sums, ref.defined() ? ref.narrow(0, first, sums.size(0)) : ref) /
               static_cast<double>(S / per_group);
      };
      const auto out = FusedLinearLoss(hidden, weight, target, groups, loss, options);
      torch::autograd::grad({out.loss}, {hidden});
    };
    for (const bool is_new : {true, false}) {
      options.grad_weight_is_new = is_new;
      bench.Products(name + shape + (is_new ? kNew : kAdded), [&] { products(with_reference); },
                     step);
    }
  };
  run("dpo", 2, true, [&](const at::Tensor& sums, const at::Tensor& ref) {
    const at::Tensor ratio = (sums - ref).view({-1, 2});
    return -at::log_sigmoid(beta * (ratio.select(1, 0) - ratio.select(1, 1))).sum();
  });
  run("orpo", 2, false, [&](const at::Tensor& sums, const at::Tensor&) {
    const at::Tensor mean = (sums / static_cast<double>(L)).view({-1, 2});
    const at::Tensor odds = mean - at::log1p(-mean.exp());
    return -(mean.select(1, 0) + beta * at::log_sigmoid(odds.select(1, 0) - odds.select(1, 1)))
                .sum();
  });
  run("kto", 1, true, [&](const at::Tensor& sums, const at::Tensor& ref) {
    return (1 - at::sigmoid(beta * (sums - ref))).sum();
  });
}

// A student and a teacher of twice its width.
void DistillationHead(Bench& bench) {
  const int64_t T = 8192, V = 128256, H = 2048, K = 4096, C = 4096;
  const std::string name = "fused_linear_jsd full 8192x(2048|4096)x128256";
  if (!bench.Wants(name)) return;
  const at::Tensor hidden = Leaf(Randn({T, H}) * 0.02), weight = Leaf(Randn({V, H}));
  const at::Tensor teacher_hidden = Randn({T, K}) * 0.02, teacher_weight = Randn({V, K});
  at::Tensor logits = at::empty({C, V}, hidden.options()), dx = at::empty({C, H}, hidden.options());
  at::Tensor dw = at::empty({V, H}, hidden.options());
  const auto products = [&] {
    const at::NoGradGuard no_grad;
    for (int64_t t = 0; t < T; t += C) {
      const at::Tensor x = hidden.narrow(0, t, C);
      at::mm_out(logits, teacher_hidden.narrow(0, t, C), teacher_weight.t());
      at::mm_out(logits, x, weight.t());
      at::mm_out(dx, logits, weight);
      at::mm_out(dw, logits.t(), x);
    }
  };
  bench.Products(name, products, [&] {
    const at::Tensor loss = FusedLinearJsd(hidden, weight, teacher_hidden, teacher_weight);
    torch::autograd::grad({loss}, {hidden, weight});
  });
}

}  // namespace

void Heads(Bench& bench) {
  for (const int64_t T : {1024, 4096, 16384}) TokenHeads(bench, T);
  PreferenceHeads(bench);
  DistillationHead(bench);
}

}  // namespace liger::kernels::bench
