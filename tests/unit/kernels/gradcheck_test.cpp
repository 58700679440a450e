// In float64, where ops run as ATen compositions: gradients against central differences.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <vector>

#include "kernels/reference/op_table.h"

namespace liger::kernels {
namespace {

constexpr double kStep = 1e-6;

// sum over outputs of <output, upstream>.
double Value(const OpCase& c, const Tensors& inputs, const Tensors& upstream) {
  const at::NoGradGuard no_grad;
  const Tensors outputs = c.ours(inputs);
  double value = 0;
  for (size_t i = 0; i < upstream.size(); ++i) {
    value += (outputs[i] * upstream[i]).sum().item<double>();
  }
  return value;
}

at::Tensor NumericGradient(const OpCase& c, const Tensors& inputs, size_t which,
                           const Tensors& upstream) {
  Tensors moved = inputs;
  moved[which] = inputs[which].clone();
  at::Tensor gradient = at::zeros_like(inputs[which]);
  double* x = moved[which].data_ptr<double>();
  for (int64_t i = 0; i < gradient.numel(); ++i) {
    const double saved = x[i];
    x[i] = saved + kStep;
    const double above = Value(c, moved, upstream);
    x[i] = saved - kStep;
    const double below = Value(c, moved, upstream);
    x[i] = saved;
    gradient.data_ptr<double>()[i] = (above - below) / (2 * kStep);
  }
  return gradient;
}

class GradcheckTest : public testing::TestWithParam<size_t> {};

TEST_P(GradcheckTest, MatchesCentralDifferences) {
  const OpCase& c = OpTable()[GetParam()];
  at::manual_seed(11);
  const OpShape shape{.name = "small", .tokens = 4, .width = 6, .vocab = 5, .valid_every = 2};
  const Tensors inputs = c.make(shape, at::kDouble);
  Tensors leaves, wanted;
  for (size_t i = 0; i < inputs.size(); ++i) {
    leaves.push_back(inputs[i].clone());
    if (c.differentiable[i]) wanted.push_back(leaves.back().requires_grad_(true));
  }
  Tensors roots = c.ours(leaves), upstream;
  roots.resize(c.num_differentiable_outputs);
  for (const auto& root : roots) {
    ASSERT_EQ(root.scalar_type(), at::kDouble);
    upstream.push_back(at::randn_like(root));
  }
  const Tensors analytic = torch::autograd::grad(roots, wanted, upstream);
  size_t next = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!c.differentiable[i]) continue;
    const at::Tensor numeric = NumericGradient(c, inputs, i, upstream);
    EXPECT_TRUE(at::allclose(analytic[next], numeric, /*rtol=*/1e-6, /*atol=*/1e-7))
        << "input " << i << "\n"
        << analytic[next] << "\n"
        << numeric;
    ++next;
  }
}

TEST_P(GradcheckTest, SecondDerivativeIsRefused) {
  const OpCase& c = OpTable()[GetParam()];
  const OpShape shape{.name = "small", .tokens = 4, .width = 6, .vocab = 5};
  Tensors inputs = c.make(shape, at::kDouble);
  inputs[0].requires_grad_(true);
  const at::Tensor loss = c.ours(inputs)[0].sum();
  EXPECT_THROW(torch::autograd::grad({loss}, {inputs[0]}, {}, /*retain_graph=*/true,
                                     /*create_graph=*/true),
               c10::Error);
}

std::vector<size_t> DifferentiableCases() {
  std::vector<size_t> cases;
  for (size_t i = 0; i < OpTable().size(); ++i) {
    if (!OpTable()[i].integral) cases.push_back(i);
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Ops, GradcheckTest, testing::ValuesIn(DifferentiableCases()),
                         [](const auto& info) { return OpTable()[info.param].name; });

}  // namespace
}  // namespace liger::kernels
