// What the trainer's tests of its optimizer do not ask of AdamWStep.
#include "kernels/adamw/adamw.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <vector>

#include "bad_input.h"

namespace liger::kernels {
namespace {

AdamWParameter Parameter(at::IntArrayRef shape, at::ScalarType dtype = at::kFloat) {
  return {.param = at::ones(shape, dtype),
          .grad = at::ones(shape, dtype),
          .exp_avg = Zeros(shape),
          .exp_avg_sq = Zeros(shape)};
}

TEST(BadInputTest, AdamW) {
  const auto step = [](const AdamWParameter& parameter) {
    return [=] { AdamWStep({parameter}, {}); };
  };
  const auto with = [](auto AdamWParameter::* member, const auto& value) {
    AdamWParameter parameter = Parameter({2, 3});
    parameter.*member = value;
    return parameter;
  };
  ExpectMessages({
      {step(with(&AdamWParameter::grad, Zeros({3, 2}))), {"adamw: grad", "[3, 2]", "[2, 3]"}},
      {step(with(&AdamWParameter::exp_avg, Zeros({3, 2}).t())),
       {"adamw: exp_avg", "[2, 3]", "not contiguous"}},
      {step(with(&AdamWParameter::exp_avg, Zeros({2, 3}, at::kBFloat16))),
       {"adamw: exp_avg is BFloat16", "exp_avg_sq Float"}},
      {step(with(&AdamWParameter::compute, Zeros({2}))), {"adamw: compute", "[2]", "[2, 3]"}},
      {step(with(&AdamWParameter::compute, Zeros({2, 3}, at::kHalf))),
       {"adamw: compute", "[2, 3]", "Half"}},
      {step(with(&AdamWParameter::grad, Zeros({2, 3}, at::kHalf))),
       {"adamw: grad", "[2, 3]", "Half"}},
      {step(with(&AdamWParameter::grad, OnMeta({2, 3}))), {"adamw: grad", "meta"}},
      {[=] { AdamWStep({Parameter({2})}, {.step = 0}); }, {"adamw: step is 0"}},
      {[=] { AdamWStep({Parameter({2})}, {.beta1 = 1}); }, {"adamw: beta1 is 1", "[0, 1)"}},
      {[=] { AdamWStep({Parameter({2})}, {.beta2 = -0.5}); }, {"adamw: beta2 is -0.5"}},
      {[=] { AdamWStep({Parameter({2})}, {.epsilon = -1}); }, {"adamw: eps is -1"}},
      {[=] { AdamWStep({Parameter({2})}, {.learning_rate = NAN}); }, {"adamw: lr is nan"}},
      {step(with(&AdamWParameter::weight_decay, -1.0)), {"adamw: weight_decay is -1"}},
      {[=] {
         AdamWStep({Parameter({2})}, {.grad_scale = Zeros({3})});
       },
       {"adamw: grad_scale of shape [3]", "one float32 number"}},
  });
}

// What is refused for its last parameter has not touched the first.
TEST(AdamWStepTest, ARefusedStepChangesNothing) {
  const AdamWParameter good = Parameter({4});
  AdamWParameter bad = Parameter({4});
  bad.compute = at::full({4}, 7, at::kHalf);
  EXPECT_THROW(AdamWStep({good, bad}, {}), c10::Error);
  EXPECT_TRUE(good.param.equal(at::ones({4})));
  EXPECT_EQ(at::count_nonzero(good.exp_avg).item<int64_t>(), 0);
  EXPECT_TRUE(bad.compute.equal(at::full({4}, 7, at::kHalf)));
}

// As a rank's share of a small parameter may be.
TEST(AdamWStepTest, EmptyParametersOfAnyShape) {
  const AdamWParameter full = Parameter({3});
  AdamWStep({Parameter({0, 4}), full, Parameter({0})}, {.learning_rate = 0.5});
  EXPECT_TRUE(full.param.allclose(at::full({3}, 0.5)));
}

}  // namespace
}  // namespace liger::kernels
