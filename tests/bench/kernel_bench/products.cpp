// Ops that are matrix products.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "kernels/attention/attention.h"
#include "kernels/matmul_int2xint8/matmul_int2xint8.h"
#include "tests/bench/kernel_bench/bench.h"

namespace liger::kernels::bench {

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

namespace {

// Sequences of these lengths, 32 query heads on 8 key heads of H.
struct AttentionCase {
  AttentionCase(const std::vector<int64_t>& lengths, int64_t H, double softcap = 0,
                at::ScalarType dtype = at::kBFloat16)
      : spans{{0}, {}, {}, {}},
        options{.scale = 1 / std::sqrt(static_cast<double>(H)), .softcap = softcap} {
    for (const int64_t length : lengths) {
      spans.query_offsets.push_back(spans.query_offsets.back() + length);
      flops += 2.0 * 32 * static_cast<double>(length * length * H);
    }
    spans.key_offsets = spans.query_offsets;
    spans.query_cu_seqlens = at::tensor(spans.query_offsets, at::kInt).to(kGpu);
    spans.key_cu_seqlens = spans.query_cu_seqlens;
    const int64_t T = spans.query_offsets.back();
    q = Leaf(Randn({T, 32, H}).to(dtype));
    k = Leaf(Randn({T, 8, H}).to(dtype));
    v = Leaf(Randn({T, 8, H}).to(dtype));
    grad = Randn({T, 32, H}).to(dtype);
  }

  at::Tensor Run(AttentionBackend backend) const {
    return Attention(q, k, v, spans, options, backend);
  }
  Fn Forward(AttentionBackend backend) const {
    return [*this, backend] {
      const at::NoGradGuard no_grad;
      Run(backend);
    };
  }
  Fn Backward(AttentionBackend backend) const {
    return [*this, out = Run(backend)] { Grad(out, {q, k, v}, grad); };
  }

  AttentionSpans spans;
  AttentionOptions options;
  at::Tensor q, k, v, grad;
  double flops = 0;  // of forward; backward has 2.5 times as many
};

// cuDNN's dense kernels over each of the lengths alone: a batch of as many sequences of it as make
// up to 16384 tokens, and their number.
std::vector<Bench::Part> DenseParts(const std::vector<int64_t>& lengths, int64_t H, bool backward) {
  std::vector<Bench::Part> parts;
  for (const int64_t length : lengths) {
    const int64_t copies = std::max<int64_t>(1, 16384 / length);
    const auto heads = [&](int64_t n) {
      return Randn({copies, length, n, H}).transpose(1, 2).requires_grad_();
    };
    const at::Tensor q = heads(32), k = heads(8), v = heads(8), grad = heads(32).detach();
    const auto run = [=] {
      return std::get<0>(at::_scaled_dot_product_cudnn_attention(
          q, k, v, /*attn_bias=*/{}, /*compute_log_sumexp=*/true, /*dropout_p=*/0.0,
          /*is_causal=*/true, /*return_debug_mask=*/false));
    };
    const auto forward = [=] {
      const at::NoGradGuard no_grad;
      run();
    };
    const Fn backwards = [=, out = backward ? run() : at::Tensor()] { Grad(out, {q, k, v}, grad); };
    parts.push_back({static_cast<double>(copies), backward ? backwards : Fn(forward)});
  }
  return parts;
}

using Label = std::pair<std::string, AttentionBackend>;

void Rows(Bench& bench, const AttentionCase& all, const std::string& shape,
          const std::vector<Label>& labels) {
  for (const auto& [label, backend] : labels) {
    if (bench.Wants(label + " fwd " + shape)) {
      bench.Flops(label + " fwd " + shape, all.flops, all.Forward(backend));
    }
    if (bench.Wants(label + " bwd " + shape)) {
      bench.Flops(label + " bwd " + shape, 2.5 * all.flops, all.Backward(backend));
    }
  }
}

}  // namespace

// 16384 tokens in sequences of one length and of many, by what Attention takes and by
// FlashAttention-2 and our own kernels. Rows "over dense" compare ragged batches with what their
// sequences would take at the dense speed of their lengths.
void Attentions(Bench& bench) {
  const std::vector<std::pair<std::string, std::vector<int64_t>>> batches = {
      {"4x4096", {4096, 4096, 4096, 4096}},
      {"8x2048", std::vector<int64_t>(8, 2048)},
      {"16x1024", std::vector<int64_t>(16, 1024)},
      {"ragged to 4096", {4096, 3000, 2500, 2000, 1800, 1500, 900, 588}},
      {"ragged to 2048",
       {2048, 1900, 1700, 1500, 1300, 1200, 1100, 1000, 900, 800, 700, 600, 500, 400, 300, 436}}};
  for (const auto& [batch, lengths] : batches) {
    for (const int64_t H : {64, 128}) {
      const AttentionCase all(lengths, H);
      const std::string shape = batch + ", head " + std::to_string(H);
      Rows(bench, all, shape,
           {{"attention", AttentionBackend::kAuto},
            {"attention flash", AttentionBackend::kFlash},
            {"attention tiled", AttentionBackend::kTiled}});
      if (lengths.front() == lengths.back()) continue;
      for (const bool backward : {false, true}) {
        std::string name = "attention over dense ";
        name.append(backward ? "bwd " : "fwd ").append(shape);
        if (!bench.Wants(name)) continue;
        bench.Parts(name, DenseParts(lengths, H, backward),
                    backward ? all.Backward(AttentionBackend::kAuto)
                             : all.Forward(AttentionBackend::kAuto));
      }
    }
  }
  // What neither cuDNN nor FlashAttention-2 takes, against plain operations; and wide heads.
  const std::vector<int64_t> lengths = batches[0].second;
  const std::vector<Label> labels = {{"", AttentionBackend::kAuto},
                                     {" plain", AttentionBackend::kPlain}};
  for (const int64_t H : {128, 256}) {
    const std::string shape = batches[0].first + ", head " + std::to_string(H);
    for (const auto& [label, backend] : labels) {
      Rows(bench, {lengths, H, 50}, shape, {{"attention softcap" + label, backend}});
      Rows(bench, {lengths, H, 0, at::kFloat}, shape, {{"attention float32" + label, backend}});
    }
  }
  Rows(bench, {lengths, 256}, batches[0].first + ", head 256",
       {{"attention", AttentionBackend::kAuto}, {"attention tiled", AttentionBackend::kTiled}});
}

}  // namespace liger::kernels::bench
