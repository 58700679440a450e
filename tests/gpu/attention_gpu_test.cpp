// Attention beyond the op table: views, and our own kernels against plain operations.
#include <ATen/ATen.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "gpu_test.h"
#include "kernels/attention/attention.h"
#include "kernels/path.h"

namespace liger::kernels {
namespace {

// Heads that do not begin at 16 bytes, and heads that have gaps of 2 bytes between them: kernels
// that read 16 bytes at once must not be given them. The upstream gradient is such a view, too.
TEST(AttentionGpuTest, AttentionOfUnalignedHeads) {
  at::manual_seed(6);
  const int64_t T = 1536, H = 64;
  struct Case {
    at::ScalarType dtype;
    double softcap;
  };
  // The last two: our own kernels.
  for (const Case& c :
       {Case{at::kBFloat16, 0}, {at::kHalf, 0}, {at::kBFloat16, 5}, {at::kFloat, 0}}) {
    const auto dtype = c.dtype;
    const AttentionOptions options{.scale = 0.125, .softcap = c.softcap};
    // Without a softcap: FlashAttention-2; cuDNN of one length and of several.
    for (const auto& offsets :
         std::vector<std::vector<int64_t>>{{0, 100, 1000, T}, {0, T}, {0, 100, T}}) {
      const AttentionSpans spans{offsets, offsets, {}, {}};
      for (const auto& [first, wide] :
           {std::pair<int64_t, int64_t>{1, 66}, {8, 72 + 1}, {1, 72}, {0, 72}}) {
        std::vector<at::Tensor> packed, views;
        for (const int64_t heads : {4, 2, 2}) {
          const at::Tensor big = Randn({T, heads, wide}, dtype);
          views.push_back(big.narrow(2, first, H).detach().requires_grad_());
          packed.push_back(views.back().detach().clone(at::MemoryFormat::Contiguous));
          packed.back().requires_grad_();
        }
        const at::Tensor upstream = Randn({T * 4 * H + 1}, dtype).narrow(0, 1, T * 4 * H);
        const auto run = [&](const std::vector<at::Tensor>& in, const at::Tensor& grad) {
          const at::Tensor out = Attention(in[0], in[1], in[2], spans, options);
          return std::pair(out.detach(), torch::autograd::grad({out}, in, {grad}));
        };
        const auto [expected, expected_grads] = run(packed, upstream.clone().view({T, 4, H}));
        const auto [out, grads] = run(views, upstream.view({T, 4, H}));
        EXPECT_TRUE(out.equal(expected)) << dtype << " " << offsets << " " << first << " " << wide;
        for (size_t i = 0; i < 3; ++i) {
          EXPECT_LT(RelativeError(grads[i], expected_grads[i]), 1e-2) << dtype << " " << offsets;
        }
      }
    }
  }
}

// Neighbours along a head that are not neighbours in memory, for each of the backends.
TEST(AttentionGpuTest, AttentionOfHeadsWithGaps) {
  at::manual_seed(6);
  for (const int64_t T : {300, 1500}) {
    const AttentionSpans spans{{0, 100, T}, {0, 100, T}, {}, {}};
    for (const double softcap : {0.0, 5.0}) {
      std::vector<at::Tensor> packed, gapped;
      for (const int64_t heads : {4, 2, 2}) {
        const at::Tensor x = Randn({T, heads, 64}, at::kBFloat16);
        packed.push_back(x.requires_grad_());
        gapped.push_back(at::stack({x, at::full_like(x, 1e30)}, -1).select(-1, 0).detach());
        gapped.back().requires_grad_();
      }
      const at::Tensor upstream = Randn({T, 4, 64}, at::kBFloat16);
      const auto run = [&](const std::vector<at::Tensor>& in) {
        const at::Tensor out =
            Attention(in[0], in[1], in[2], spans, {.scale = 0.125, .softcap = softcap});
        return std::pair(out.detach(), torch::autograd::grad({out}, in, {upstream}));
      };
      const auto [expected, expected_grads] = run(packed);
      const auto [out, grads] = run(gapped);
      EXPECT_TRUE(out.equal(expected)) << T << " " << softcap;
      // The order of a backend's sums may differ between runs.
      for (size_t i = 0; i < 3; ++i) {
        EXPECT_LT(RelativeError(grads[i], expected_grads[i]), 1e-2) << T << " " << softcap;
      }
    }
  }
}

struct Results {
  at::Tensor out;
  std::vector<at::Tensor> grads;

  std::vector<at::Tensor> All() const { return {out, grads[0], grads[1], grads[2]}; }
};

Results Differentiate(const std::vector<at::Tensor>& in, const at::Tensor& upstream,
                      const AttentionSpans& spans, const AttentionOptions& options,
                      AttentionBackend backend) {
  std::vector<at::Tensor> leaves;
  for (const at::Tensor& x : in) leaves.push_back(x.detach().requires_grad_());
  const at::Tensor out = Attention(leaves[0], leaves[1], leaves[2], spans, options, backend);
  return {out.detach(), torch::autograd::grad({out}, leaves, {upstream})};
}

// Q of the queries, T of the keys; 6 query heads on 3 key heads.
std::vector<at::Tensor> Heads(int64_t Q, int64_t T, int64_t H, at::ScalarType dtype) {
  return {Randn({Q, 6, H}, dtype), Randn({T, 3, H}, dtype), Randn({T, 3, H}, dtype)};
}

std::vector<at::Tensor> To(const std::vector<at::Tensor>& in, at::ScalarType dtype) {
  std::vector<at::Tensor> out;
  for (const at::Tensor& x : in) out.push_back(x.to(dtype));
  return out;
}

// Sequences of none, one, a whole tile and several tiles of tokens; queries that stand at the last
// of more keys. Errors are at most twice those of PyTorch's plain operations in the dtype.
TEST(AttentionGpuTest, TiledIsAsGoodAsPlain) {
  at::manual_seed(8);
  const std::vector<AttentionSpans> spans = {
      {{0, 1, 1, 65, 129, 430}, {0, 1, 1, 65, 129, 430}, {}, {}},
      {{0, 3, 3, 60, 300}, {0, 40, 47, 500, 740}, {}, {}}};
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const int64_t H : {8, 64, 80, 96, 128, 192, 256}) {
      for (const AttentionSpans& s : spans) {
        for (const AttentionOptions options : {AttentionOptions{},
                                               {.window = 33},
                                               {.softcap = 1.5},
                                               {.softcap = 1e6},
                                               {.window = 100, .softcap = 50}}) {
          // Plain operations round scores / softcap to the dtype, and float16 has none so small.
          if (dtype == at::kHalf && options.softcap > 100) continue;
          SCOPED_TRACE(c10::str(dtype, " ", H, " ", s.query_offsets, " ", options.window, " ",
                                options.softcap));
          AttentionOptions scaled = options;
          scaled.scale = 1.5 / std::sqrt(static_cast<double>(H));
          const auto in = Heads(s.query_offsets.back(), s.key_offsets.back(), H, dtype);
          const at::Tensor upstream = Randn(in[0].sizes(), dtype);
          ClearPathsRan();
          const auto ours = Differentiate(in, upstream, s, scaled, AttentionBackend::kTiled);
          EXPECT_TRUE(std::ranges::any_of(
              PathsRan(), [](const PathRan& ran) { return ran.path == Path::kCuda; }));
          const auto plain = Differentiate(in, upstream, s, scaled, AttentionBackend::kPlain);
          const auto exact = Differentiate(To(in, at::kDouble), upstream.to(at::kDouble), s, scaled,
                                           AttentionBackend::kPlain);
          for (size_t i = 0; i < 4; ++i) {
            const double error = RelativeError(ours.All()[i], exact.All()[i]);
            EXPECT_LE(error, 2 * RelativeError(plain.All()[i], exact.All()[i])) << i;
          }
        }
      }
    }
  }
}

// What is not finite comes out where plain operations show it.
TEST(AttentionGpuTest, NotFiniteStaysNotFinite) {
  const AttentionSpans spans{{0, 70, 150}, {0, 70, 150}, {}, {}};
  const double infinity = std::numeric_limits<double>::infinity();
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const auto in = Heads(150, 150, 64, dtype);
    in[0][10][2].fill_(std::nan(""));   // a query
    in[0][80][1].fill_(-infinity);      // scores of both infinities
    in[1][100][0].fill_(infinity);      // a key of heads 0 and 1
    in[2][120][2].fill_(std::nan(""));  // a value of heads 4 and 5
    const AttentionOptions options{.scale = 0.1, .softcap = 5};
    const at::Tensor ours =
        Attention(in[0], in[1], in[2], spans, options, AttentionBackend::kTiled);
    const at::Tensor plain =
        Attention(in[0], in[1], in[2], spans, options, AttentionBackend::kPlain);
    EXPECT_TRUE(ours.isnan().any().item<bool>());
    EXPECT_TRUE(ours.slice(0, 0, 10).isfinite().all().item<bool>());
    // From the first of 64 keys on, a NaN may reach queries that do not see it: 0 x NaN.
    for (const auto& [first, last] : {std::pair{0, 70}, {70, 110}, {121, 150}}) {
      EXPECT_TRUE(ours.slice(0, first, last).isnan().equal(plain.slice(0, first, last).isnan()))
          << dtype << " " << first;
    }
  }
}

// The ops, which others than Attention may call.
TEST(AttentionGpuTest, OpsRefuseWhatTheKernelsDoNotTake) {
  const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("liger::attention_tiled_forward", "")
          .typed<std::tuple<at::Tensor, at::Tensor>(
              const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
              const at::Tensor&, int64_t, int64_t, double, int64_t, double)>();
  const at::Tensor starts = at::tensor({0, 5}, at::kInt).to(kGpu);
  const auto refusal = [&](int64_t H, const at::Tensor& at, int64_t longest, int64_t window) {
    const at::Tensor q = Randn({5, 4, H}, at::kBFloat16), k = Randn({5, 2, H}, at::kBFloat16);
    try {
      op.call(q, k, k, at, at, longest, longest, 0.1, window, 0);
    } catch (const c10::Error& error) {
      return std::string(error.what_without_backtrace());
    }
    return std::string();
  };
  EXPECT_EQ(refusal(64, starts, 5, 0), "");
  EXPECT_NE(refusal(9, starts, 5, 0).find("takes no query of shape [5, 4, 9]"), std::string::npos);
  EXPECT_NE(refusal(300, starts, 5, 0).find("[5, 4, 300]"), std::string::npos);
  EXPECT_NE(refusal(64, starts, 5, -3).find("window is -3"), std::string::npos);
  EXPECT_NE(refusal(64, starts, -5, 0).find("max_queries is -5"), std::string::npos);
  EXPECT_NE(refusal(64, starts.slice(0, 0, 0), 5, 0).find("query_starts"), std::string::npos);
}

// Every kernel, in the smallest shapes with whole and partial tiles: also what a racecheck watches.
TEST(AttentionGpuTest, EqualRunsGiveEqualBits) {
  at::manual_seed(9);
  const AttentionSpans spans{{0, 70, 150}, {0, 70, 160}, {}, {}};
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const int64_t H : {64, 128, 256}) {
      const AttentionOptions options{.scale = 0.1, .window = 60, .softcap = 5};
      const auto in = Heads(150, 160, H, dtype);
      const at::Tensor upstream = Randn(in[0].sizes(), dtype);
      const auto first = Differentiate(in, upstream, spans, options, AttentionBackend::kTiled);
      const auto second = Differentiate(in, upstream, spans, options, AttentionBackend::kTiled);
      for (size_t i = 0; i < 4; ++i) {
        EXPECT_TRUE(second.All()[i].equal(first.All()[i])) << dtype << " " << H << " " << i;
      }
    }
  }
}

// What Attention takes by itself: softcaps and float32 leave no scores in the GPU's memory.
TEST(AttentionGpuTest, ScoresStayOnTheChip) {
  const int64_t T = 8192, N = 6, H = 128;
  const AttentionSpans spans{{0, T}, {0, T}, {}, {}};
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const auto in = Heads(T, T, H, dtype);
    const at::Tensor upstream = Randn(in[0].sizes(), dtype);
    at::accelerator::emptyCache();
    at::accelerator::resetPeakStats(0);
    const auto allocated = [] { return at::accelerator::getDeviceStats(0).allocated_bytes[0]; };
    const int64_t before = allocated().current;
    const AttentionOptions options{.scale = 0.1, .softcap = 30};
    const auto results = Differentiate(in, upstream, spans, options, AttentionBackend::kAuto);
    const int64_t peak = allocated().peak - before;
    // The results, and per query and head three float32 numbers; a few offsets.
    const int64_t expected = (2 * N + 2 * 3) * T * H * in[0].element_size() + 3 * 4 * N * T;
    EXPECT_LE(peak, expected + (1 << 20)) << dtype;
    EXPECT_GE(peak, expected) << dtype;
  }
}

// Offsets beyond 2^31 elements.
TEST(AttentionGpuTest, MoreElementsThanInt32Counts) {
  const int64_t T = 270000, H = 256, N = 32;
  const int64_t tail = 300;
  const AttentionSpans spans{{0, T - tail, T}, {0, T - tail, T}, {}, {}};
  const AttentionOptions options{.scale = 0.06, .window = 64, .softcap = 20};
  const auto randn = [](at::IntArrayRef shape) {
    return at::randn(shape, at::TensorOptions(kGpu).dtype(at::kBFloat16));
  };
  const std::vector<at::Tensor> in = {randn({T, N, H}), randn({T, 1, H}), randn({T, 1, H})};
  const at::Tensor upstream = randn({T, N, H});
  ASSERT_GT(in[0].numel(), int64_t{1} << 31);
  const auto ours = Differentiate(in, upstream, spans, options, AttentionBackend::kAuto);
  std::vector<at::Tensor> last;
  for (const at::Tensor& x : in) last.push_back(x.narrow(0, T - tail, tail));
  const AttentionSpans one{{0, tail}, {0, tail}, {}, {}};
  const auto expected = Differentiate(last, upstream.narrow(0, T - tail, tail), one, options,
                                      AttentionBackend::kAuto);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_TRUE(ours.All()[i].narrow(0, T - tail, tail).equal(expected.All()[i])) << i;
  }
}

}  // namespace
}  // namespace liger::kernels
