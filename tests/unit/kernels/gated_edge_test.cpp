// Gates as large as their dtype has them: values and slopes are finite where they have a limit.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <string>
#include <vector>

#include "kernels/geglu/geglu.h"
#include "kernels/swiglu/swiglu.h"

#ifndef LIGER_TEST_DEVICE
#define LIGER_TEST_DEVICE "cpu"
#endif

namespace liger::kernels {
namespace {

const std::vector<double> kGates = {-3e38, -1e20, -1e13, -1e6, -100, -31,  -29,  -12,
                                    12,    29,    31,    100,  1e6,  1e13, 1e20, 3e38};

template <typename Ours, typename Theirs>
void ExpectAsInDouble(const std::string& name, Ours&& ours, Theirs&& theirs) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    SCOPED_TRACE(name + " " + c10::toString(dtype));
    // Whole packs, and a rest.
    const at::Tensor gates = at::tensor(kGates, at::kDouble).repeat({5}).slice(0, 0, 73);
    const at::Tensor gate = gates.to(dtype).to(LIGER_TEST_DEVICE).requires_grad_();
    const at::Tensor up = at::full_like(gate, 0.5).detach().requires_grad_();
    const at::Tensor y = ours(gate, up);
    const auto grads = torch::autograd::grad({y}, {gate, up}, {at::ones_like(y)});
    const at::Tensor gate64 = gate.detach().cpu().to(at::kDouble).requires_grad_();
    const at::Tensor up64 = up.detach().cpu().to(at::kDouble).requires_grad_();
    const at::Tensor y64 = theirs(gate64) * up64;
    const auto grads64 = torch::autograd::grad({y64}, {gate64, up64}, {at::ones_like(y64)});
    const double rtol = dtype == at::kFloat ? 1e-6 : 4e-3;
    const auto expect = [&](const at::Tensor& got, const at::Tensor& want, const char* what) {
      const at::Tensor got64 = got.detach().cpu().to(at::kDouble);
      EXPECT_TRUE(at::allclose(got64, want.detach(), rtol, 1e-7))
          << what << "\n"
          << at::stack({gate64.detach(), got64, want.detach()}, 1).slice(0, 0, 16);
    };
    expect(y, y64, "y");
    expect(grads[0], grads64[0], "dgate");
    expect(grads[1], grads64[1], "dup");
  }
}

TEST(GatedEdgeTest, LargestGates) {
  ExpectAsInDouble(
      "swiglu", [](const auto& gate, const auto& up) { return Swiglu(gate, up); },
      [](const auto& gate) { return at::silu(gate); });
  for (const auto form : {GeluApproximate::kNone, GeluApproximate::kTanh}) {
    const std::string name = form == GeluApproximate::kTanh ? "tanh" : "none";
    ExpectAsInDouble(
        "geglu " + name, [&](const auto& gate, const auto& up) { return Geglu(gate, up, form); },
        [&](const auto& gate) { return at::gelu(gate, name); });
  }
}

}  // namespace
}  // namespace liger::kernels
