// liger::rope over three rows of positions against transformers' Qwen2-VL.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "kernels/rope/rope.h"
#include "tests/unit/models/golden.h"

namespace liger::trainer {
namespace {

using Rotated = std::pair<at::Tensor, at::Tensor>;
const std::vector<int64_t> kSection = {2, 3, 3};

TEST(RopeMultimodalTest, IsTransformers) {
  const auto file = SafetensorsFile::Open(golden::Folder("rope_multimodal") + "/rope.safetensors");
  for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    const auto of = [&](const char* name) { return file->View(name).to(dtype); };
    const double tolerance = dtype == at::kDouble ? 1e-12 : dtype == at::kFloat ? 1e-6 : 4e-3;
    for (const bool fused : {true, false}) {
      const at::Tensor q = of("q").requires_grad_(), k = of("k").requires_grad_();
      const at::Tensor cos = of("cos"), sin = of("sin");
      const Rotated out = fused ? kernels::Rope(q, k, cos, sin, kSection)
                                : kernels::baseline::Rope(q, k, cos, sin, kSection);
      // The baseline rounds every term of a sum.
      const double allowed = fused ? tolerance : 2 * tolerance;
      EXPECT_LT(golden::RelativeError(out.first, file->View("q_out")), allowed) << dtype << fused;
      EXPECT_LT(golden::RelativeError(out.second, file->View("k_out")), allowed) << dtype << fused;
      const auto grads =
          torch::autograd::grad({out.first, out.second}, {q, k}, {of("grad_q"), of("grad_k")});
      EXPECT_LT(golden::RelativeError(grads[0], file->View("dq")), allowed) << dtype << fused;
      EXPECT_LT(golden::RelativeError(grads[1], file->View("dk")), allowed) << dtype << fused;
    }
    at::Tensor q = of("q").clone(), k = of("k").clone();
    kernels::RopeInPlace(q, k, of("cos"), of("sin"), kSection);
    EXPECT_LT(golden::RelativeError(q, file->View("q_out")), tolerance);
    EXPECT_LT(golden::RelativeError(k, file->View("k_out")), tolerance);
  }
}

// Sections in another order are other positions.
TEST(RopeMultimodalTest, SectionsMatter) {
  const auto file = SafetensorsFile::Open(golden::Folder("rope_multimodal") + "/rope.safetensors");
  const auto [q, k] = kernels::Rope(file->View("q"), file->View("k"), file->View("cos"),
                                    file->View("sin"), {3, 3, 2});
  EXPECT_GT(golden::RelativeError(q, file->View("q_out")), 1e-2);
}

}  // namespace
}  // namespace liger::trainer
