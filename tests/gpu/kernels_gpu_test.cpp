// What the op table (tests/unit/kernels/op_table_test.cpp, built in here for cuda:0) does not
// ask: that our kernels ran, long and unaligned rows, equal bits, bad targets, other streams.
#include <ATen/ATen.h>
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

#include "gpu_test.h"
#include "kernels/adamw/adamw.h"
#include "kernels/cross_entropy/cross_entropy.h"
#include "kernels/fused_linear_cross_entropy/fused_linear_cross_entropy.h"
#include "kernels/fused_linear_logprob/fused_linear_logprob.h"
#include "kernels/path.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rope/rope.h"
#include "kernels/swiglu/swiglu.h"

namespace liger::kernels {
namespace {

// The program links libtorch_cpu only, as liger-trainer does.
class CudaEnvironment : public testing::Environment {
 public:
  void SetUp() override {
    ASSERT_NE(dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL), nullptr) << dlerror();
    ASSERT_TRUE(at::globalContext().hasCUDA());
  }
};
const auto* const kEnvironment = testing::AddGlobalTestEnvironment(new CudaEnvironment);

TEST(KernelsGpuTest, OurKernelsRun) {
  ClearPathsRan();
  const at::Tensor x = Randn({4, 64}, at::kBFloat16), w = Randn({64}, at::kBFloat16);
  RmsNorm(x, w, 1e-5);
  Swiglu(x, x);
  const at::Tensor q = Randn({4, 2, 16}, at::kBFloat16), table = Randn({4, 16}, at::kFloat);
  Rope(q, q, table, table);
  CrossEntropy(x, at::zeros({4}, at::TensorOptions(kGpu).dtype(at::kLong)));
  for (const PathRan& ran : PathsRan()) EXPECT_EQ(ran.path, Path::kCuda) << ran.op;
  EXPECT_EQ(PathsRan().size(), 4u);
}

// Rows that fill registers, that do not fit, that are not 16 byte aligned; float32 weights.
TEST(KernelsGpuTest, RmsNormOfEveryLength) {
  at::manual_seed(3);
  for (const int64_t H : {8, 33, 576, 1000, 2048, 4096, 4104, 8192, 16384, 20000, 70001}) {
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      for (const auto weight_dtype : {dtype, at::kFloat}) {
        const at::Tensor x = Randn({37, H}, dtype).requires_grad_();
        const at::Tensor w = Randn({H}, weight_dtype).requires_grad_();
        const at::Tensor dy = Randn({37, H}, dtype);
        const at::Tensor y = RmsNorm(x, w, 1e-5);
        const auto grads = torch::autograd::grad({y}, {x, w}, {dy});
        const at::Tensor xd = x.detach().cpu().to(at::kDouble).requires_grad_();
        const at::Tensor wd = w.detach().cpu().to(at::kDouble).requires_grad_();
        const at::Tensor yd = RmsNorm(xd, wd, 1e-5);
        const auto expected = torch::autograd::grad({yd}, {xd, wd}, {dy.cpu().to(at::kDouble)});
        const double tolerance = dtype == at::kFloat ? 2e-6 : 6e-3;
        EXPECT_LT(RelativeError(y, yd), tolerance) << H << " " << dtype;
        EXPECT_LT(RelativeError(grads[0], expected[0]), tolerance) << H << " " << dtype;
        EXPECT_LT(RelativeError(grads[1], expected[1]), tolerance) << H << " " << dtype;
      }
    }
  }
}

TEST(KernelsGpuTest, EqualRunsGiveEqualBits) {
  const at::Tensor x = Randn({1000, 1024}, at::kBFloat16).requires_grad_();
  const at::Tensor w = Randn({1024}, at::kBFloat16).requires_grad_();
  const at::Tensor dy = Randn({1000, 1024}, at::kBFloat16);
  const auto run = [&] { return torch::autograd::grad({RmsNorm(x, w, 1e-5)}, {x, w}, {dy}); };
  const auto a = run(), b = run();
  EXPECT_TRUE(a[0].equal(b[0]));
  EXPECT_TRUE(a[1].equal(b[1]));
}

TEST(KernelsGpuTest, HeadsInOneTensorAndInPlace) {
  const int64_t T = 50, N = 6, K = 2, D = 64;
  const at::Tensor qkv = Randn({T, N + 2 * K, D}, at::kBFloat16);
  at::Tensor q = qkv.narrow(1, 0, N), k = qkv.narrow(1, N, K);
  const at::Tensor angle = Randn({T, D}, at::kFloat) * 3, cos = angle.cos(), sin = angle.sin();
  const auto expected = baseline::Rope(q.cpu().to(at::kDouble), k.cpu().to(at::kDouble),
                                       cos.cpu().to(at::kDouble), sin.cpu().to(at::kDouble));
  const at::Tensor values = qkv.narrow(1, N + K, K).clone();
  const auto [q_out, k_out] = Rope(q, k, cos, sin);
  RopeInPlace(q, k, cos, sin);
  EXPECT_LT(RelativeError(q_out, expected.first), 4e-3);
  EXPECT_LT(RelativeError(k_out, expected.second), 4e-3);
  EXPECT_TRUE(q.equal(q_out));
  EXPECT_TRUE(k.equal(k_out));
  EXPECT_TRUE(qkv.narrow(1, N + K, K).equal(values)) << "in place touches q and k only";
}

// A target outside the vocabulary is never read; the loss says that something is wrong.
TEST(KernelsGpuTest, TargetOutOfRangeMakesTheLossNan) {
  // 100: a logit at a time; 512: in one pass. Without kernels of ours: float64.
  for (const int64_t V : {100, 512}) {
    for (const auto dtype : {at::kFloat, at::kBFloat16, at::kDouble}) {
      for (const int64_t bad : {int64_t{-1}, int64_t{-7}, V, int64_t{1} << 40}) {
        SCOPED_TRACE(c10::str(V, " ", dtype, " ", bad));
        const at::Tensor logits = Randn({5, V}, dtype).requires_grad_();
        at::Tensor target = at::zeros({5}, at::TensorOptions(kGpu).dtype(at::kLong));
        target[3] = bad;
        const at::Tensor loss = CrossEntropy(logits, target);
        EXPECT_TRUE(std::isnan(loss.item<double>()));
        const auto options = CrossEntropyWithOptions(
            logits, target,
            {.reduction = Reduction::kNone,
             .label_smoothing = 0.1,
             .class_weight_V = at::ones({V}, logits.options().requires_grad(false)),
             .token_stats = true});
        EXPECT_TRUE(std::isnan(options.loss[3].item<double>()));
        EXPECT_EQ(at::isnan(options.loss).sum().item<int64_t>(), 1);
        for (const at::Tensor& sum : {loss, options.loss.sum()}) {
          const at::Tensor grad = torch::autograd::grad({sum}, {logits})[0];
          EXPECT_FALSE(grad.narrow(0, 0, 3).isnan().any().item<bool>());
          EXPECT_LT(grad[4][0].item<float>(), 0);
        }
        const at::Tensor weight = Randn({V, 16}, dtype), hidden = Randn({5, 16}, dtype);
        EXPECT_TRUE(
            std::isnan(FusedLinearCrossEntropy(hidden, weight, target).loss.item<double>()));
        EXPECT_TRUE(std::isnan(FusedLinearLogprob(hidden, weight, target).logp_T[3].item<float>()));
      }
    }
  }
}

// More rows than there are clusters, of one block to eight and of more than fit; upstream gradients
// of 1, which forward has seen to, and of another number; a second backward beside the first one's
// result; and in the place of the logits.
TEST(KernelsGpuTest, CrossEntropyOfManyRows) {
  at::manual_seed(4);
  const std::pair<int64_t, int64_t> sizes[] = {{1500, 2048}, {600, 2056},  {300, 33},
                                               {250, 49152}, {100, 128256}, {60, 200064},
                                               {40, 262152}};
  for (const auto& [T, V] : sizes) {
    at::Tensor target = at::randint(V, {T}, at::TensorOptions(kGpu).dtype(at::kLong));
    target.slice(0, 2, T, 3).fill_(kIgnoreIndex);
    for (const auto dtype : {at::kBFloat16, at::kHalf, at::kFloat}) {
      const at::Tensor logits = (Randn({T, V}, at::kFloat) * 3).to(dtype).requires_grad_();
      const at::Tensor exact = logits.detach().to(at::kCPU, at::kDouble).requires_grad_();
      const at::Tensor exact_loss = CrossEntropy(exact, target.cpu(), 1.0);
      const at::Tensor expected = torch::autograd::grad({exact_loss}, {exact})[0];
      const double tolerance = dtype == at::kFloat ? 1e-6 : dtype == at::kHalf ? 1e-3 : 4e-3;
      const at::Tensor loss = CrossEntropy(logits, target, 1.0);
      EXPECT_LT(RelativeError(loss.detach(), exact_loss.detach()), 1e-6) << V << " " << dtype;
      const auto grad = [&](double upstream) {
        return torch::autograd::grad({loss}, {logits}, {at::full_like(loss, upstream)},
                                     /*retain_graph=*/true)[0];
      };
      const at::Tensor first = grad(1), second = grad(1), half = grad(0.5);
      EXPECT_LT(RelativeError(first, expected), tolerance) << V << " " << dtype;
      EXPECT_NE(first.data_ptr(), second.data_ptr());
      EXPECT_LT(RelativeError(second, expected), tolerance) << V << " " << dtype;
      EXPECT_LT(RelativeError(half, expected * 0.5), tolerance) << V << " " << dtype;
      const at::Tensor other = torch::autograd::grad({CrossEntropy(logits, target, 1.0) * 0.5},
                                                     {logits})[0];
      EXPECT_TRUE(other.equal(half)) << V << " " << dtype;
      at::Tensor place = logits.detach().clone();
      CrossEntropyAndGradInPlace(place, target, 1.0);
      EXPECT_TRUE(place.equal(first)) << V << " " << dtype;
    }
  }
}

// Several sizes, aligned and not, against the formula in double.
TEST(KernelsGpuTest, AdamWOfManyTensors) {
  at::manual_seed(5);
  const double grad_scale = 0.5, weight_decay = 0.5;
  const AdamWStepOptions options{
      .learning_rate = 2e-3,
      .beta1 = 0.9,
      .beta2 = 0.99,
      .epsilon = 1e-6,
      .step = 3,
      .grad_scale = at::full({}, grad_scale, at::TensorOptions(kGpu).dtype(at::kFloat))};
  const AdamWScalars s = ScalarsOf(options);
  for (const auto& [param_dtype, state_dtype] : {std::pair(at::kFloat, at::kFloat),
                                                 {at::kBFloat16, at::kFloat},
                                                 {at::kBFloat16, at::kBFloat16}}) {
    std::vector<AdamWParameter> parameters;
    std::vector<std::vector<at::Tensor>> before;
    const at::Tensor shared = Randn({1 << 16}, param_dtype);
    for (const int64_t n : {1, 7, 4096, 0, 16384, 40001, 100000}) {
      AdamWParameter p{.param = Randn({n}, param_dtype),
                       .compute = at::empty({n}, at::TensorOptions(kGpu).dtype(at::kBFloat16)),
                       .grad = Randn({n}, param_dtype),
                       .exp_avg = Randn({n}, state_dtype) * 0.1,
                       .exp_avg_sq = Randn({n}, state_dtype).abs(),
                       .weight_decay = weight_decay};
      before.push_back({p.param.clone(), p.exp_avg.clone(), p.exp_avg_sq.clone()});
      parameters.push_back(p);
    }
    // Not 16 byte aligned.
    parameters[5].param = shared.narrow(0, 1, 40001);
    before[5][0] = parameters[5].param.clone();
    AdamWStep(parameters, options);
    for (size_t i = 0; i < parameters.size(); ++i) {
      const auto d = [](const at::Tensor& t) { return t.to(at::kDouble); };
      const at::Tensor g = d(parameters[i].grad) * grad_scale;
      const at::Tensor m = d(before[i][1]) + s.one_minus_beta1 * (g - d(before[i][1]));
      const at::Tensor v = d(before[i][2]) * s.beta2 + s.one_minus_beta2 * g * g;
      const at::Tensor p = d(before[i][0]) * (1 - options.learning_rate * weight_decay) -
                           s.step_size * m / (v.sqrt() * s.inv_sqrt_bias2 + s.epsilon);
      if (g.numel() == 0) continue;
      const double param_tolerance = param_dtype == at::kFloat ? 1e-6 : 4e-3;
      const double state_tolerance = state_dtype == at::kFloat ? 1e-6 : 4e-3;
      EXPECT_LT(RelativeError(parameters[i].param, p), param_tolerance) << i;
      EXPECT_LT(RelativeError(parameters[i].exp_avg, m), state_tolerance) << i;
      EXPECT_LT(RelativeError(parameters[i].exp_avg_sq, v), state_tolerance) << i;
      EXPECT_TRUE(parameters[i].compute.equal(parameters[i].param.to(at::kBFloat16))) << i;
    }
  }
}

// The host may find out too late that a step went wrong.
TEST(KernelsGpuTest, AdamWWithAScaleThatIsNotFiniteChangesNothing) {
  const at::Tensor param = Randn({5000}, at::kBFloat16), before = param.clone();
  const at::Tensor mean = at::zeros({5000}, param.options().dtype(at::kFloat));
  AdamWStep({{.param = param,
              .grad = at::ones_like(param),
              .exp_avg = mean,
              .exp_avg_sq = at::zeros_like(mean)}},
            {.grad_scale = at::full({}, std::nan(""), mean.options())});
  EXPECT_TRUE(param.equal(before));
  EXPECT_EQ(at::count_nonzero(mean).item<int64_t>(), 0);
}

// Steps far below half a unit in the last place move the mean all the same, and equal streams
// give equal bits.
TEST(KernelsGpuTest, AdamWRoundsStochastically) {
  const int64_t n = 1 << 20;
  const auto run = [&](uint64_t stream) {
    const auto options = at::TensorOptions(kGpu).dtype(at::kBFloat16);
    AdamWParameter p{.param = at::ones({n}, options),
                     .compute = at::empty({n}, options.dtype(at::kFloat)),
                     .grad = at::ones({n}, options),
                     .exp_avg = at::ones({n}, options.dtype(at::kFloat)),
                     .exp_avg_sq = at::ones({n}, options.dtype(at::kFloat)),
                     .stream = stream};
    // By 1e-4, were nothing rounded.
    AdamWStep({p}, {.learning_rate = 1e-5, .beta2 = 0, .epsilon = 0, .stochastic = true});
    EXPECT_TRUE(p.compute.equal(p.param.to(at::kFloat)));
    return p.param;
  };
  const at::Tensor a = run(1), b = run(1), c = run(2);
  EXPECT_TRUE(a.equal(b));
  EXPECT_FALSE(a.equal(c));
  // From 1 down by 1e-4; bfloat16's next value below 1 is 1 - 2^-8.
  EXPECT_NEAR(1 - a.to(at::kDouble).mean().item<double>(), 1e-4, 2e-6);
}

// More than 2^31 logits: 17000 rows of 128256, whose last row counts like its first.
TEST(KernelsGpuTest, MoreLogitsThanInt32Counts) {
  const int64_t T = 17000, V = 128256;
  const at::Tensor row = Randn({1, V}, at::kBFloat16);
  const at::Tensor logits = row.expand({T, V}).contiguous().requires_grad_();
  const at::Tensor target = at::full({T}, V - 1, at::TensorOptions(kGpu).dtype(at::kLong));
  const at::Tensor loss = CrossEntropy(logits, target, 1.0 / T);
  const at::Tensor one =
      CrossEntropy(row.to(at::kDouble).cpu(), at::full({1}, V - 1, at::kLong), 1.0);
  EXPECT_NEAR(loss.item<double>(), one.item<double>(), 1e-4);
  const at::Tensor grad = torch::autograd::grad({loss}, {logits})[0];
  EXPECT_TRUE(grad[0].equal(grad[T - 1]));
  EXPECT_LT(grad[T - 1][V - 1].item<float>(), 0);
}

}  // namespace
}  // namespace liger::kernels
