// Every op of the table against its float64 reference, with PyTorch's error as the measure:
// forward and each gradient, over ragged shapes, and proof that the measure can fail.
#include "kernels/reference/op_table.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "comparison.h"
#include "kernels/cross_entropy/cross_entropy.h"
#include "test_device.h"

// tests/gpu runs the same checks on a GPU: inputs are drawn on the CPU, the op and its twin
// run on the device, and what comes out is judged on the CPU.
namespace liger::kernels {
namespace {

struct OpRun {
  Tensors outputs;
  Tensors grads;
};

Tensors DoubleOf(const Tensors& tensors) {
  Tensors out;
  for (const auto& t : tensors) {
    out.push_back((t.is_floating_point() ? t.detach().to(at::kDouble) : t).contiguous());
  }
  return out;
}

// Runs `op` on leaf copies of the inputs, then autograd with these upstream gradients.
OpRun RunOp(const OpCase& c, const std::function<Tensors(const Tensors&)>& op,
            const Tensors& inputs, const Tensors& upstream) {
  Tensors leaves, wanted;
  for (size_t i = 0; i < inputs.size(); ++i) {
    at::Tensor leaf = inputs[i].detach().to(kDevice).clone();
    if (c.differentiable[i]) wanted.push_back(leaf.requires_grad_(true));
    leaves.push_back(leaf);
  }
  OpRun run{.outputs = op(leaves), .grads = {}};
  Tensors roots(run.outputs.begin(),
                run.outputs.begin() + static_cast<int64_t>(c.num_differentiable_outputs));
  Tensors seeds;
  for (size_t i = 0; i < roots.size(); ++i) {
    seeds.push_back(upstream[i].to(roots[i].options()));
  }
  if (!c.integral) run.grads = torch::autograd::grad(roots, wanted, seeds);
  for (Tensors* results : {&run.outputs, &run.grads}) {
    for (at::Tensor& t : *results) t = t.cpu();
  }
  return run;
}

// Upstream gradients shaped as these outputs, rounded to their dtype so that all sides get the
// same numbers.
Tensors UpstreamOf(const OpCase& c, const Tensors& outputs) {
  Tensors upstream;
  for (size_t i = 0; i < c.num_differentiable_outputs; ++i) {
    upstream.push_back(at::randn(outputs[i].sizes()).to(outputs[i].scalar_type()));
  }
  return upstream;
}

// What the outputs look like.
Tensors Outputs(const OpCase& c, const Tensors& inputs) {
  const at::NoGradGuard no_grad;
  Tensors on_device;
  for (const at::Tensor& t : inputs) on_device.push_back(t.to(kDevice));
  return c.baseline(on_device);
}

Tensors Upstream(const OpCase& c, const Tensors& inputs) {
  return UpstreamOf(c, Outputs(c, inputs));
}

// A second run of PyTorch's, where there is one: its error is the larger of the two. On a CPU
// OpCase::pytorch_on_cpu. On a GPU:
// the baseline on the tokens alone whose target (or label) is not ignored, brought back to all
// tokens: the fused heads multiply only those, and cuBLAS rounds a product of another size
// otherwise: a logit near the middle of two numbers of its dtype then falls to the other side.
std::optional<OpRun> RunOtherYardstick(const OpCase& c, const Tensors& inputs,
                                       const Tensors& upstream) {
  if (c.pytorch_on_cpu && kDevice.is_cpu()) {
    return RunOp(c, c.pytorch_on_cpu, inputs, upstream);
  }
  const int which = std::max(c.target, c.label);
  if (which < 0 || kDevice.is_cpu()) return std::nullopt;
  const at::Tensor target = inputs[static_cast<size_t>(which)];
  const at::Tensor rows = at::nonzero(target != kIgnoreIndex).view(-1);
  const int64_t T = target.size(0);
  if (rows.size(0) == 0 || rows.size(0) == T) return std::nullopt;
  const auto is_per_token = [&](const at::Tensor& t, int64_t n) {
    return t.dim() > 0 && t.size(0) == n;
  };
  // Inputs and gradients of the target's length are of tokens.
  Tensors compact = inputs, compact_upstream = upstream;
  for (Tensors* list : {&compact, &compact_upstream}) {
    for (at::Tensor& t : *list) {
      if (is_per_token(t, T)) t = t.index_select(0, rows);
    }
  }
  OpRun run = RunOp(c, c.baseline, compact, compact_upstream);
  const auto expand = [&](at::Tensor& t) {
    std::vector<int64_t> shape = t.sizes().vec();
    shape[0] = T;
    t = at::zeros(shape, t.options()).index_copy_(0, rows, t);
  };
  for (at::Tensor& t : run.outputs) {
    if (is_per_token(t, rows.size(0))) expand(t);
  }
  expand(run.grads[0]);
  return run;
}

// The comparisons of every output and every gradient of an op.
struct Comparisons {
  std::vector<Comparison> outputs, grads;

  void Add(const OpRun& ours, const OpRun& theirs, const reference::Result& ref,
           const std::optional<OpRun>& theirs_too) {
    outputs.resize(ref.outputs.size());
    grads.resize(ref.grads.size());
    const auto other = [&](const Tensors OpRun::*list, size_t i) {
      return theirs_too ? std::optional((*theirs_too.*list)[i]) : std::nullopt;
    };
    for (size_t i = 0; i < outputs.size(); ++i) {
      outputs[i].Add(ours.outputs[i], theirs.outputs[i], ref.outputs[i], other(&OpRun::outputs, i));
    }
    for (size_t i = 0; i < grads.size(); ++i) {
      grads[i].Add(ours.grads[i], theirs.grads[i], ref.grads[i], other(&OpRun::grads, i));
    }
  }

  // Where a result is one number, or few, the draw decides who is closer. A result without any
  // (all targets ignored) stays without one in the next draw.
  bool AreFew() const {
    constexpr int64_t kEnough = 1000;
    const auto few = [](const Comparison& c) { return c.numbers() > 0 && c.numbers() < kEnough; };
    return std::ranges::any_of(outputs, few) || std::ranges::any_of(grads, few);
  }
};

// At most 64, and no more than the reference's plain loops get through in a moment: on a GPU's
// machine all cores run them, and 26 draws of the widest head's loss are enough that one of two
// equally good sums is not twice as far from it by luck (by the F distribution: 4 times in 10000;
// of one draw, 3 times in 10).
int MaxDraws(const OpShape& shape) {
  const bool on_cpu = kDevice.is_cpu();
  const int64_t multiplications = int64_t{1} << (on_cpu ? 22 : 28);
  const int64_t one = std::max<int64_t>(1, shape.tokens * shape.width * shape.vocab);
  // compute-sanitizer (tests/gpu/sanitize) asks for one: it looks at memory, not at values.
  static const char* const limit = std::getenv("LIGER_OP_TABLE_DRAWS");
  const int64_t most = limit == nullptr ? 64 : std::atoi(limit);
  return static_cast<int>(std::clamp<int64_t>(multiplications / one, 1, most));
}

// compute-sanitizer's racecheck takes minutes for the largest heads, and asks for those of so many
// logits at most: no kernel has other shared memory for more.
bool IsTooLarge(const OpShape& shape) {
  static const char* const limit = std::getenv("LIGER_OP_TABLE_LOGITS");
  return limit != nullptr && shape.tokens * shape.vocab > std::atoll(limit);
}

// One draw of inputs, and what all sides make of it.
struct Draw {
  Tensors inputs, upstream;
  OpRun ours, theirs;
  std::optional<OpRun> theirs_too;
  reference::Result ref;
};

using Param = std::tuple<size_t, c10::ScalarType>;

class OpTableTest : public testing::TestWithParam<Param> {
 protected:
  const OpCase& op_case() const { return OpTable()[std::get<0>(GetParam())]; }
  c10::ScalarType dtype() const { return std::get<1>(GetParam()); }

  // is_top1 and the others depend on ties and roundings of low-precision logits, which both
  // sides round alike but the reference does not: judged in float32 only.
  void DropStatistics(reference::Result& ref) const {
    if (dtype() != at::kFloat && !op_case().integral)
      ref.outputs.resize(op_case().num_differentiable_outputs);
  }

  // One draw, and where it has few numbers as many as it takes, some at a time: their references,
  // plain loops, run beside each other.
  Comparisons Compare(const OpShape& shape) const {
    const OpCase& c = op_case();
    at::manual_seed(7);
    Comparisons results;
    Tensors outputs;
    const int max_draws = MaxDraws(shape);
    for (int done = 0; done < max_draws;) {
      std::vector<Draw> draws(
          static_cast<size_t>(done == 0 ? 1 : std::min(at::get_num_threads(), max_draws - done)));
      for (Draw& draw : draws) {
        draw.inputs = c.make(shape, dtype());
        if (outputs.empty()) outputs = Outputs(c, draw.inputs);
        draw.upstream = UpstreamOf(c, outputs);
        draw.ours = RunOp(c, c.ours, draw.inputs, draw.upstream);
        draw.theirs = RunOp(c, c.baseline, draw.inputs, draw.upstream);
        draw.theirs_too = RunOtherYardstick(c, draw.inputs, draw.upstream);
      }
      const auto count = static_cast<int64_t>(draws.size());
      at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          Draw& draw = draws[static_cast<size_t>(i)];
          draw.ref = c.reference(DoubleOf(draw.inputs), DoubleOf(draw.upstream));
        }
      });
      done += static_cast<int>(draws.size());
      for (Draw& draw : draws) {
        DropStatistics(draw.ref);
        EXPECT_EQ(draw.ref.grads.size(), draw.ours.grads.size());
        results.Add(draw.ours, draw.theirs, draw.ref, draw.theirs_too);
        // The same draws on any number of cores.
        if (!results.AreFew()) return results;
      }
    }
    return results;
  }
};

TEST_P(OpTableTest, IsAsGoodAsTheBaseline) {
  const OpCase& c = op_case();
  for (const OpShape& shape : c.shapes) {
    if ((shape.gpu_only && kDevice.is_cpu()) || IsTooLarge(shape)) continue;
    SCOPED_TRACE(shape.name);
    const Comparisons results = Compare(shape);
    for (size_t i = 0; i < results.outputs.size(); ++i) {
      EXPECT_TRUE(results.outputs[i].IsAsGood()) << "output " << i;
    }
    for (size_t i = 0; i < results.grads.size(); ++i) {
      EXPECT_TRUE(results.grads[i].IsAsGood()) << "gradient " << i;
    }
  }
}

// The checks above mean something: what a broken kernel would return does not pass.
TEST_P(OpTableTest, ZeroGradientIsCaught) {
  const OpCase& c = op_case();
  const OpShape& shape = c.shapes[1];
  at::manual_seed(7);
  const Tensors inputs = c.make(shape, dtype()), upstream = Upstream(c, inputs);
  const OpRun ours = RunOp(c, c.ours, inputs, upstream);
  const OpRun theirs = RunOp(c, c.baseline, inputs, upstream);
  const auto ref = c.reference(DoubleOf(inputs), DoubleOf(upstream));
  for (size_t i = 0; i < ref.grads.size(); ++i) {
    EXPECT_FALSE(IsAsGood(at::zeros_like(ours.grads[i]), theirs.grads[i], ref.grads[i])) << i;
  }
  if (c.integral) {
    EXPECT_FALSE(IsAsGood(ours.outputs[0] + 1, theirs.outputs[0], ref.outputs[0]));
  }
}

// Replaces the targets and expects the loss (or log-probabilities) and each gradient to fail.
void ExpectCaught(const OpCase& c, c10::ScalarType dtype, const OpShape& shape,
                  const std::function<void(at::Tensor& target, int64_t vocab)>& corrupt) {
  at::manual_seed(7);
  const Tensors inputs = c.make(shape, dtype), upstream = Upstream(c, inputs);
  Tensors corrupted = inputs;
  at::Tensor& target = corrupted[static_cast<size_t>(c.target)];
  target = target.clone();
  corrupt(target, shape.vocab);
  const OpRun ours = RunOp(c, c.ours, corrupted, upstream);
  const OpRun theirs = RunOp(c, c.baseline, inputs, upstream);
  const auto ref = c.reference(DoubleOf(inputs), DoubleOf(upstream));
  EXPECT_FALSE(IsAsGood(ours.outputs[0], theirs.outputs[0], ref.outputs[0]));
  for (size_t i = 0; i < ref.grads.size(); ++i) {
    EXPECT_FALSE(IsAsGood(ours.grads[i], theirs.grads[i], ref.grads[i])) << "gradient " << i;
  }
}

using OpTargetTest = OpTableTest;  // of ops with targets

TEST_P(OpTargetTest, LabelOffByOneIsCaught) {
  ExpectCaught(op_case(), dtype(), op_case().shapes[1], [](at::Tensor& target, int64_t vocab) {
    target.copy_((target + 1).remainder(vocab));
  });
}

TEST_P(OpTargetTest, SkippedChunkIsCaught) {
  ExpectCaught(op_case(), dtype(), op_case().shapes[1], [](at::Tensor& target, int64_t) {
    target.narrow(0, target.size(0) / 2, target.size(0) / 3).fill_(-100);
  });
}

// NaN in, NaN out: a loss that diverges must not be hidden.
using OpNanTest = OpTableTest;  // of ops whose inputs may hold one

TEST_P(OpNanTest, NanPropagates) {
  const OpCase& c = op_case();
  at::manual_seed(7);
  const Tensors inputs = c.make(c.shapes[1], dtype());
  inputs[0].view(-1)[0].fill_(std::nan(""));
  const OpRun ours = RunOp(c, c.ours, inputs, Upstream(c, inputs));
  EXPECT_TRUE(ours.outputs[0].isnan().any().item<bool>());
  // A softmax carries it to its row's gradient; linear and rope do not look at x there.
  if (c.target >= 0) {
    EXPECT_TRUE(ours.grads[0].isnan().any().item<bool>());
  }
}

// Of the ops that `takes` takes.
std::vector<Param> Params(bool (*takes)(const OpCase&)) {
  std::vector<Param> params;
  for (size_t i = 0; i < OpTable().size(); ++i) {
    if (!takes(OpTable()[i])) continue;
    if (OpTable()[i].integral) {
      params.emplace_back(i, at::kChar);
      continue;
    }
    for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
      if (dtype == at::kHalf && kDevice.is_cpu()) continue;
      params.emplace_back(i, dtype);
    }
  }
  return params;
}

std::string NameOf(const testing::TestParamInfo<Param>& info) {
  return OpTable()[std::get<0>(info.param)].name + "_" + c10::toString(std::get<1>(info.param));
}

INSTANTIATE_TEST_SUITE_P(Ops, OpTableTest,
                         testing::ValuesIn(Params([](const OpCase&) { return true; })), NameOf);
INSTANTIATE_TEST_SUITE_P(Ops, OpTargetTest,
                         testing::ValuesIn(Params([](const OpCase& c) { return c.target >= 0; })),
                         NameOf);
INSTANTIATE_TEST_SUITE_P(Ops, OpNanTest,
                         testing::ValuesIn(Params([](const OpCase& c) { return !c.integral; })),
                         NameOf);

}  // namespace
}  // namespace liger::kernels
