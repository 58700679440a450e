// Ops that are matrix products.
#include <torch/torch.h>

#include <cmath>
#include <string>
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

}  // namespace liger::kernels::bench
