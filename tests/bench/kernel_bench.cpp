// How close each op comes to what this GPU can do: a row an op and shape, against a device copy
// and a matrix product measured in the same process.
//
//   kernel_bench [--filter TEXT] [--json FILE]
//
// Memory-bound ops: bytes each must move (every input read once, every output written once) over
// time, as a fraction of the copy's rate. Linear heads: time over the time of their own matrix
// products through cuBLAS at the same chunks. Times are of CUDA events over repeats, p20/p50/p80.
#include <ATen/DeviceAccelerator.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "kernels/adamw/adamw.h"
#include "kernels/attention/attention.h"
#include "kernels/cross_entropy/cross_entropy.h"
#include "kernels/divergence/divergence.h"
#include "kernels/dyt/dyt.h"
#include "kernels/embedding/embedding.h"
#include "kernels/fused_add_rms_norm/fused_add_rms_norm.h"
#include "kernels/fused_linear_cross_entropy/fused_linear_cross_entropy.h"
#include "kernels/fused_linear_jsd/fused_linear_jsd.h"
#include "kernels/fused_linear_logprob/fused_linear_logprob.h"
#include "kernels/fused_linear_loss/fused_linear_loss.h"
#include "kernels/geglu/geglu.h"
#include "kernels/group_norm/group_norm.h"
#include "kernels/layer_norm/layer_norm.h"
#include "kernels/matmul_int2xint8/matmul_int2xint8.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rope/rope.h"
#include "kernels/softmax/softmax.h"
#include "kernels/swiglu/swiglu.h"

namespace liger::kernels {
namespace {

using Fn = std::function<void()>;

const at::Device kGpu(at::kCUDA, 0);

at::Tensor Randn(at::IntArrayRef shape, at::ScalarType dtype = at::kBFloat16) {
  at::Tensor out = at::empty(shape, at::TensorOptions(kGpu).dtype(dtype));
  return out.normal_();
}

at::Tensor Targets(int64_t T, int64_t V) {
  return at::randint(V, {T}, at::TensorOptions(kGpu).dtype(at::kLong));
}

struct Quantiles {
  double p20, p50, p80;  // ms
};

// Before each run a buffer larger than the L2 cache is filled: nothing of the inputs is left
// in the cache, and the GPU is busy while the CPU enqueues the op.
Quantiles Time(const Fn& fn) {
  const c10::impl::VirtualGuardImpl impl(at::kCUDA);
  const c10::Stream stream = impl.getStream(kGpu);
  static at::Tensor* const filler =
      new at::Tensor(at::empty({int64_t{1} << 28}, at::TensorOptions(kGpu).dtype(at::kByte)));
  const auto once = [&] {
    filler->zero_();
    filler->zero_();
    c10::Event begin(at::kCUDA, c10::EventFlag::BACKEND_DEFAULT);
    c10::Event end(at::kCUDA, c10::EventFlag::BACKEND_DEFAULT);
    begin.record(stream);
    fn();
    end.record(stream);
    end.synchronize();
    return begin.elapsedTime(end);
  };
  fn();
  const double guess = std::max(1e-3, std::min({once(), once(), once()}));
  const int repeats = static_cast<int>(std::clamp(400.0 / guess, 7.0, 200.0));
  std::vector<double> times;
  for (int i = 0; i < repeats; ++i) times.push_back(once());
  std::sort(times.begin(), times.end());
  const auto at_share = [&](double p) {
    return times[static_cast<size_t>(p * static_cast<double>(times.size() - 1))];
  };
  return {at_share(0.2), at_share(0.5), at_share(0.8)};
}

int64_t PeakBytes(const Fn& fn) {
  at::accelerator::synchronizeDevice(0);
  at::accelerator::resetPeakStats(0);
  const auto current = [&] { return at::accelerator::getDeviceStats(0).allocated_bytes[0]; };
  const int64_t before = current().current;
  fn();
  at::accelerator::synchronizeDevice(0);
  return current().peak - before;
}

struct Row {
  std::string name;
  Quantiles ms;
  double ideal_ms;  // at the ceiling
  std::string ceiling;
  double extra_mb;
};

class Bench {
 public:
  explicit Bench(std::string filter) : filter_(std::move(filter)) {
    const at::Tensor a = Randn({int64_t{1} << 29}), b = at::empty_like(a);
    copy_bytes_per_ms_ = 2.0 * static_cast<double>(a.nbytes()) / Time([&] { b.copy_(a); }).p50;
    const at::Tensor m = Randn({8192, 8192}), n = Randn({8192, 8192});
    at::Tensor out = at::empty_like(m);
    gemm_flops_per_ms_ = 2.0 * 8192 * 8192 * 8192 / Time([&] { at::mm_out(out, m, n); }).p50;
    std::printf("copy %.0f GB/s, bf16 GEMM %.0f TFLOP/s\n", copy_bytes_per_ms_ / 1e6,
                gemm_flops_per_ms_ / 1e9);
    std::printf("%-44s %9s %9s %9s  %-7s %9s\n", "op", "p20 ms", "p50 ms", "p80 ms", "of",
                "extra MB");
  }

  bool Wants(const std::string& name) const { return name.find(filter_) != std::string::npos; }

  void Bytes(const std::string& name, double bytes, const Fn& fn) {
    if (Wants(name)) Add({name, Time(fn), bytes / copy_bytes_per_ms_, "copy", Extra(fn)});
  }
  // Against these products, run in the same process.
  void Products(const std::string& name, const Fn& products, const Fn& fn) {
    if (Wants(name)) Add({name, Time(fn), Time(products).p50, "gemms", Extra(fn)});
  }

  // At the GEMM's rate.
  void Flops(const std::string& name, double flops, const Fn& fn) {
    if (Wants(name)) Add({name, Time(fn), flops / gemm_flops_per_ms_, "gemm rate", Extra(fn)});
  }

  void WriteJson(const std::string& path) const {
    std::ofstream out(path);
    out << "{\"copy_gb_s\": " << copy_bytes_per_ms_ / 1e6
        << ", \"gemm_tflops\": " << gemm_flops_per_ms_ / 1e9 << ", \"rows\": [";
    for (size_t i = 0; i < rows_.size(); ++i) {
      const Row& r = rows_[i];
      out << (i ? ",\n" : "\n") << "{\"op\": \"" << r.name << "\", \"p20_ms\": " << r.ms.p20
          << ", \"p50_ms\": " << r.ms.p50 << ", \"p80_ms\": " << r.ms.p80
          << ", \"ideal_ms\": " << r.ideal_ms << ", \"ceiling\": \"" << r.ceiling
          << "\", \"extra_mb\": " << r.extra_mb << "}";
    }
    out << "\n]}\n";
  }

 private:
  static double Extra(const Fn& fn) { return static_cast<double>(PeakBytes(fn)) / 1e6; }

  void Add(Row row) {
    // A fraction of the ceiling's rate, or a multiple of the products' time.
    const bool is_rate = row.ceiling != "gemms";
    const double ratio = is_rate ? row.ideal_ms / row.ms.p50 : row.ms.p50 / row.ideal_ms;
    std::printf("%-44s %9.4f %9.4f %9.4f  %5.3f%s %9.1f\n", row.name.c_str(), row.ms.p20,
                row.ms.p50, row.ms.p80, ratio, is_rate ? "  " : "x ", row.extra_mb);
    std::fflush(stdout);
    rows_.push_back(std::move(row));
  }

  std::string filter_;
  double copy_bytes_per_ms_ = 0, gemm_flops_per_ms_ = 0;
  std::vector<Row> rows_;
};

at::Tensor Leaf(at::Tensor t) { return t.requires_grad_(); }

void Grad(const at::Tensor& y, const std::vector<at::Tensor>& inputs, const at::Tensor& dy) {
  torch::autograd::grad({y}, inputs, {dy}, /*retain_graph=*/true);
}

void Norms(Bench& bench) {
  const int64_t T = 16384;
  for (const int64_t H : {2048, 4096, 8192}) {
    const at::Tensor x = Leaf(Randn({T, H})), w = Leaf(Randn({H})), dy = Randn({T, H});
    const double pass = static_cast<double>(x.nbytes());
    const std::string shape = " " + std::to_string(T) + "x" + std::to_string(H);
    bench.Bytes("rms_norm fwd" + shape, 2 * pass, [&] {
      const torch::NoGradGuard no_grad;
      RmsNorm(x, w, 1e-5);
    });
    const at::Tensor y = RmsNorm(x, w, 1e-5);
    bench.Bytes("rms_norm bwd" + shape, 3 * pass, [&] { Grad(y, {x, w}, dy); });
    const at::Tensor residual = Leaf(Randn({T, H})), dsum = Randn({T, H});
    bench.Bytes("fused_add_rms_norm fwd" + shape, 4 * pass, [&] {
      const torch::NoGradGuard no_grad;
      FusedAddRmsNorm(x, residual, w, 1e-5);
    });
    const auto added = FusedAddRmsNorm(x, residual, w, 1e-5);
    bench.Bytes("fused_add_rms_norm bwd" + shape, 4 * pass, [&] {
      torch::autograd::grad({added.first, added.second}, {x, residual, w}, {dy, dsum},
                            /*retain_graph=*/true);
    });
    const at::Tensor b = Leaf(Randn({H}));
    bench.Bytes("layer_norm fwd" + shape, 2 * pass, [&] {
      const torch::NoGradGuard no_grad;
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
      const torch::NoGradGuard no_grad;
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
        const torch::NoGradGuard no_grad;
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

void Losses(Bench& bench) {
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

// A 1B model's worth of parameters in bfloat16 with float32 states, and all in bfloat16.
void Optimizer(Bench& bench) {
  for (const auto state : {at::kFloat, at::kBFloat16}) {
    std::vector<AdamWParameter> parameters;
    const at::Tensor scale = at::ones({}, at::TensorOptions(kGpu).dtype(at::kFloat));
    double bytes = 0;
    for (int i = 0; i < 64; ++i) {
      const int64_t n = int64_t{1} << 24;
      AdamWParameter p{.param = Randn({n}),
                       .grad = Randn({n}),
                       .exp_avg = at::zeros({n}, at::TensorOptions(kGpu).dtype(state)),
                       .exp_avg_sq = at::zeros({n}, at::TensorOptions(kGpu).dtype(state))};
      bytes += static_cast<double>(2 * p.param.nbytes() + p.grad.nbytes() + 2 * p.exp_avg.nbytes() +
                                   2 * p.exp_avg_sq.nbytes());
      parameters.push_back(std::move(p));
    }
    bench.Bytes(std::string("adamw 64x2^24 bf16, states ") + c10::toString(state), bytes, [&] {
      AdamWStep(parameters, {.learning_rate = 1e-6, .grad_scale = scale, .stochastic = true});
    });
  }
}

void Heads(Bench& bench, int64_t T) {
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
    const torch::NoGradGuard no_grad;
    for (int64_t t = 0; t < T; t += C) {
      const at::Tensor x = hidden.narrow(0, t, C);
      for (int i = 0; i < forwards; ++i) at::mm_out(logits, x, weight.t());
      at::mm_out(dx, logits, weight);
      at::mm_out(dw, logits.t(), x);
    }
  };
  FusedLinearCrossEntropyOptions options{.scale = 1.0 / static_cast<double>(T)};
  options.grad_weight_VH = acc;
  const auto cross_entropy = [&](const std::string& name, const auto& with) {
    bench.Products(
        "fused_linear_cross_entropy" + name + shape, [&] { products(1); },
        [&] {
          const auto out = FusedLinearCrossEntropy(hidden, weight, target, {}, with);
          torch::autograd::grad({out.loss}, {hidden});
        });
  };
  cross_entropy("", options);
  FusedLinearCrossEntropyOptions capped = options, smoothed = options;
  capped.softcap = 30;
  smoothed.label_smoothing = 0.1;
  smoothed.lse_square_scale = 1e-4;
  cross_entropy(" softcap", capped);
  cross_entropy(" smoothing z-loss", smoothed);
  FusedLinearLogprobOptions logprob;
  logprob.grad_weight_VH = acc;
  const at::Tensor upstream = Randn({T}, at::kFloat);
  bench.Products(
      "fused_linear_logprob" + shape, [&] { products(2); },
      [&] {
        const auto out = FusedLinearLogprob(hidden, weight, target, {}, logprob);
        torch::autograd::grad({out.logp_T}, {hidden}, {upstream});
      });
}

// The heads of preference objectives over 16 answers of 1024 tokens, chosen and rejected ones of 8
// pairs (KTO: 16 rows), by the composite; DPO and KTO with a reference's log-probabilities.
void PreferenceHeads(Bench& bench) {
  const int64_t S = 16, L = 1024, T = S * L, V = 128256, H = 4096, C = 2048;
  const double beta = 0.1;
  const std::string shape = "_head composite 16x1024x4096x128256";
  if (!bench.Wants("dpo" + shape) && !bench.Wants("orpo" + shape) && !bench.Wants("kto" + shape)) {
    return;
  }
  const at::Tensor hidden = Leaf(Randn({T, H})), weight = Leaf(Randn({V, H}) * 0.02);
  const at::Tensor ref_hidden = Randn({T, H}), ref_weight = Randn({V, H}) * 0.02;
  const at::Tensor target = Targets(T, V);
  at::Tensor acc = at::zeros({V, H}, at::TensorOptions(kGpu).dtype(at::kFloat));
  at::Tensor logits = at::empty({C, V}, hidden.options().requires_grad(false));
  at::Tensor dx = at::empty({C, H}, logits.options()), dw = at::empty({V, H}, logits.options());
  const auto products = [&](bool reference) {
    const torch::NoGradGuard no_grad;
    for (int64_t t = 0; t < T; t += C) {
      const at::Tensor x = hidden.narrow(0, t, C);
      at::mm_out(logits, x, weight.t());
      if (reference) at::mm_out(logits, ref_hidden.narrow(0, t, C), ref_weight.t());
      at::mm_out(dx, logits, weight);
      at::mm_out(dw, logits.t(), x);
    }
  };
  const auto reference = [&] {
    const torch::NoGradGuard no_grad;
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
    bench.Products(
        name + shape, [&] { products(with_reference); },
        [&] {
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
        });
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

// Ternary weights beside a bfloat16 product of the same sizes.
void Int2Products(Bench& bench) {
  const int64_t K = 4096, N = 14336;
  const auto integers = at::TensorOptions(kGpu);
  const at::Tensor packed = at::randint(0, 171, {K / 4, N}, integers.dtype(at::kByte));
  const at::Tensor weight = Randn({K, N});
  for (const int64_t M : {1, 16, 512, 8192}) {
    const at::Tensor x = at::randint(-128, 128, {M, K}, integers.dtype(at::kChar));
    const at::Tensor in = Randn({M, K});
    at::Tensor out = at::empty({M, N}, in.options());
    bench.Products(
        "matmul_int2xint8 " + std::to_string(M) + "x4096x14336",
        [&] { at::mm_out(out, in, weight); }, [&] { MatmulInt2xInt8(x, packed); });
  }
}

// 16384 tokens in sequences of one length and of many, by what Attention takes and by
// FlashAttention-2; 32 query heads on 8 key heads.
void Attentions(Bench& bench) {
  const std::vector<std::pair<std::string, std::vector<int64_t>>> batches = {
      {"4x4096", {4096, 4096, 4096, 4096}},
      {"8x2048", std::vector<int64_t>(8, 2048)},
      {"16x1024", std::vector<int64_t>(16, 1024)},
      {"ragged to 4096", {4096, 3000, 2500, 2000, 1800, 1500, 900, 588}},
      {"ragged to 2048",
       {2048, 1900, 1700, 1500, 1300, 1200, 1100, 1000, 900, 800, 700, 600, 500, 400, 300, 436}}};
  for (const auto& [name, lengths] : batches) {
    for (const int64_t H : {64, 128}) {
      AttentionSpans spans{{0}, {}, {}, {}};
      double flops = 0;
      for (const int64_t length : lengths) {
        spans.query_offsets.push_back(spans.query_offsets.back() + length);
        flops += 2.0 * 32 * static_cast<double>(length * length * H);
      }
      spans.key_offsets = spans.query_offsets;
      spans.query_cu_seqlens = at::tensor(spans.query_offsets, at::kInt).to(kGpu);
      spans.key_cu_seqlens = spans.query_cu_seqlens;
      const int64_t T = spans.query_offsets.back();
      const at::Tensor q = Leaf(Randn({T, 32, H})), k = Leaf(Randn({T, 8, H}));
      const at::Tensor v = Leaf(Randn({T, 8, H})), grad = Randn({T, 32, H});
      const AttentionOptions options{.scale = 1 / std::sqrt(static_cast<double>(H))};
      for (const auto& [label, backend] : {std::pair("attention", AttentionBackend::kAuto),
                                           {"attention flash", AttentionBackend::kFlash}}) {
        const std::string shape = " " + name + ", head " + std::to_string(H);
        const auto run = [&, backend = backend] {
          return Attention(q, k, v, spans, options, backend);
        };
        bench.Flops(std::string(label) + " fwd" + shape, flops, [&] {
          const torch::NoGradGuard no_grad;
          run();
        });
        if (!bench.Wants(std::string(label) + " bwd" + shape)) continue;
        const at::Tensor out = run();
        bench.Flops(std::string(label) + " bwd" + shape, 2.5 * flops, [&] {
          Grad(out, {q, k, v}, grad);
        });
      }
    }
  }
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
    const torch::NoGradGuard no_grad;
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

int Main(int argc, char** argv) {
  std::string filter, json;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (i + 1 < argc && argument == "--filter") {
      filter = argv[++i];
    } else if (i + 1 < argc && argument == "--json") {
      json = argv[++i];
    } else {
      std::fprintf(stderr, "usage: kernel_bench [--filter TEXT] [--json FILE]\n");
      return 3;
    }
  }
  if (dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) == nullptr || !at::hasCUDA()) {
    std::fprintf(stderr, "kernel_bench: no CUDA here\n");
    return 3;
  }
  torch::manual_seed(1);
  Bench bench(filter);
  Norms(bench);
  GroupNorms(bench);
  SoftmaxAndDyt(bench);
  Elementwise(bench);
  Embeddings(bench);
  Losses(bench);
  LossOptions(bench);
  Divergences(bench);
  Optimizer(bench);
  for (const int64_t T : {1024, 4096, 16384}) Heads(bench, T);
  PreferenceHeads(bench);
  Attentions(bench);
  DistillationHead(bench);
  Int2Products(bench);
  if (!json.empty()) bench.WriteJson(json);
  return 0;
}

}  // namespace
}  // namespace liger::kernels

int main(int argc, char** argv) { return liger::kernels::Main(argc, argv); }
