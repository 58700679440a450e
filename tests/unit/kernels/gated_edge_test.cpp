// Gates as large as their dtype has them: values and slopes are finite where they have a limit.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <string>
#include <vector>

#include "kernels/geglu/geglu.h"
#include "kernels/swiglu/swiglu.h"
#include "test_device.h"

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
    const at::Tensor gate = gates.to(dtype).to(kDevice).requires_grad_();
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

// The largest error of `got`, each by its own size.
double WorstBy(const at::Tensor& size, const at::Tensor& got, const at::Tensor& want) {
  const at::Tensor error = got.detach().cpu().to(at::kDouble) - want.detach();
  return (error.abs() / size.detach()).max().item<double>();
}

// Phi, also where it is next to 0, relative to itself: at most twice as far off as PyTorch's op is
// anywhere in the same band of gates. The slope, Phi + z phi, has a zero: relative to its terms.
TEST(GatedEdgeTest, ExactGeluInEveryBandOfGates) {
  const auto run = [](const at::Tensor& gate_in, const auto& geglu) {
    const at::Tensor gate = gate_in.detach().requires_grad_();
    const at::Tensor up = at::ones_like(gate).detach().requires_grad_();
    const at::Tensor y = geglu(gate, up);
    const auto grads = torch::autograd::grad({y}, {gate, up}, {at::ones_like(y)});
    return std::vector<at::Tensor>{y, grads[0], grads[1]};
  };
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    for (int64_t low = -12; low < 12; ++low) {
      SCOPED_TRACE(c10::str(dtype, " gates from ", low));
      const at::Tensor gate = (at::arange(1, 4096, at::kDouble) / 4096 + low).to(dtype).to(kDevice);
      const at::Tensor gate64 = gate.cpu().to(at::kDouble);
      const auto ours = run(gate, [](auto& g, auto& u) { return Geglu(g, u); });
      const auto theirs = run(gate, [](auto& g, auto& u) { return baseline::Geglu(g, u); });
      const auto exact = run(gate64, [](auto& g, auto& u) {
        return g * at::special_erfc(g * -std::sqrt(0.5)) * 0.5 * u;
      });
      const at::Tensor bell = (gate64.square() * -0.5).exp() / std::sqrt(8 * std::atan(1.0));
      const at::Tensor cdf = at::special_erfc(gate64 * -std::sqrt(0.5)) * 0.5;
      const at::Tensor sizes[] = {exact[0].abs(), cdf + gate64.abs() * bell, exact[2].abs()};
      for (size_t i = 0; i < 3; ++i) {
        EXPECT_LE(WorstBy(sizes[i], ours[i], exact[i]),
                  2 * WorstBy(sizes[i], theirs[i], exact[i]) + 2e-7)
            << "y, dgate, dup: " << i;
      }
    }
  }
}

}  // namespace
}  // namespace liger::kernels
