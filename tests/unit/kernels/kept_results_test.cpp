// A block that runs twice, the second time with what the first run kept: the same bits as without.
#include "kernels/kept_results.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <vector>

#include "kernels/attention/attention.h"
#include "kernels/linear/linear.h"
#include "test_device.h"

namespace liger::kernels {
namespace {

struct Inputs {
  at::Tensor x, query_weight, key_weight, value_weight, out_weight;
  AttentionSpans spans;
  AttentionOptions options;

  std::vector<at::Tensor> Leaves() const {
    return {x, query_weight, key_weight, value_weight, out_weight};
  }
};

// N 4 query and K 2 key heads of H.
Inputs MakeInputs(at::ScalarType dtype, const std::vector<int64_t>& offsets, int64_t window,
                  double softcap) {
  at::manual_seed(5);
  constexpr int64_t kHead = 64, kSize = 96;
  const auto make = [&](int64_t rows, int64_t columns) {
    return (at::randn({rows, columns}) * 0.1).to(kDevice, dtype).requires_grad_();
  };
  return {.x = make(offsets.back(), kSize),
          .query_weight = make(4 * kHead, kSize),
          .key_weight = make(2 * kHead, kSize),
          .value_weight = make(2 * kHead, kSize),
          .out_weight = make(kSize, 4 * kHead),
          .spans = {offsets, offsets, {}, {}},
          .options = {.scale = 0.125, .window = window, .softcap = softcap}};
}

at::Tensor Block(const Inputs& in) {
  const KeptResults::Region here(true);
  const auto heads = [&](const at::Tensor& weight) {
    return Linear(in.x, weight).unflatten(1, {-1, 64});
  };
  const at::Tensor out =
      Attention(heads(in.query_weight), heads(in.key_weight), heads(in.value_weight), in.spans,
                in.options);
  return Linear(out.flatten(1), in.out_weight);
}

std::vector<at::Tensor> Gradients(const Inputs& in, const at::Tensor& y) {
  return torch::autograd::grad({y.square().sum()}, in.Leaves());
}

// `tolerance`: of gradients, relative L2; 0: the same bits.
void ExpectSameAsWithout(const Inputs& in, size_t entries, double tolerance = 0) {
  const at::Tensor expected = Block(in);
  const std::vector<at::Tensor> expected_grads = Gradients(in, expected);
  KeptResults results;
  {
    const at::NoGradGuard no_grad;
    const KeptResults::Scope scope(results, KeptResults::Run::kFirst);
    EXPECT_TRUE(Block(in).equal(expected));
  }
  EXPECT_EQ(results.entries().size(), entries);
  at::Tensor again;
  {
    const KeptResults::Scope scope(results, KeptResults::Run::kSecond);
    again = Block(in);
  }
  EXPECT_TRUE(again.equal(expected));
  const std::vector<at::Tensor> grads = Gradients(in, again);
  for (size_t i = 0; i < grads.size(); ++i) {
    const double difference =
        ((grads[i] - expected_grads[i]).norm() / expected_grads[i].norm()).item<double>();
    EXPECT_LE(difference, tolerance) << "gradient " << i;
  }
}

TEST(KeptResultsTest, OfEveryBackend) {
  const std::vector<int64_t> even = {0, 128, 256}, ragged = {0, 5, 133, 200};
  const bool on_gpu = kDevice.is_cuda();
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    for (const auto& offsets : {even, ragged}) {
      for (const int64_t window : {0, 7}) {
        SCOPED_TRACE(c10::str(dtype, " window ", window, " of ", offsets));
        ExpectSameAsWithout(MakeInputs(dtype, offsets, window, 0), 5);
      }
      SCOPED_TRACE(c10::str(dtype, " capped, of ", offsets));
      // On a CPU that is plain operations, which keep nothing.
      ExpectSameAsWithout(MakeInputs(dtype, offsets, 0, 30), on_gpu ? 5 : 4);
    }
  }
}

// Long enough for cuDNN, whose backward pass adds up in any order: rows of one length, and several.
#ifdef LIGER_TEST_ON_GPU
TEST(KeptResultsTest, OfCudnn) {
  for (const std::vector<int64_t>& offsets :
       {std::vector<int64_t>{0, 1024, 2048}, {0, 1030, 1100}}) {
    for (const int64_t window : {0, 100}) {
      SCOPED_TRACE(c10::str("window ", window, " of ", offsets));
      ExpectSameAsWithout(MakeInputs(at::kBFloat16, offsets, window, 0), 5, 5e-3);
    }
  }
}
#endif

// What was kept is what counts, not what the op would make now.
TEST(KeptResultsTest, AreNotComputedAgain) {
  const at::Tensor x = at::ones({1, 2}), weight = at::ones({1, 2}).requires_grad_();
  KeptResults results;
  const auto run = [&](KeptResults::Run which) {
    const KeptResults::Scope scope(results, which);
    const KeptResults::Region here(true);
    return Linear(x, weight);
  };
  EXPECT_EQ(run(KeptResults::Run::kFirst).item<float>(), 2);
  {
    const at::NoGradGuard no_grad;
    weight.fill_(7);
  }
  EXPECT_EQ(run(KeptResults::Run::kSecond).item<float>(), 2);
  EXPECT_EQ(run(KeptResults::Run::kSecond).item<float>(), 14) << "taken twice";
}

TEST(KeptResultsTest, OnlyInARegion) {
  const at::Tensor x = at::ones({1, 2});
  KeptResults results;
  const KeptResults::Scope scope(results, KeptResults::Run::kFirst);
  Linear(x, x);
  const KeptResults::Region here(true);
  Linear(x, x);
  {
    const KeptResults::Region nowhere(false);
    Linear(x, x);
  }
  EXPECT_EQ(results.entries().size(), 1u);
}

}  // namespace
}  // namespace liger::kernels
