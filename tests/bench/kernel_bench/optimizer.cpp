#include <ATen/ATen.h>

#include <string>
#include <utility>
#include <vector>

#include "kernels/adamw/adamw.h"
#include "tests/bench/kernel_bench/bench.h"

namespace liger::kernels::bench {

// A 1B model's worth of parameters in bfloat16 with float32 states, and all in bfloat16.
void Optimizer(Bench& bench) {
  for (const auto state : {at::kFloat, at::kBFloat16}) {
    std::vector<AdamWParameter> parameters;
    const at::Tensor scale = at::ones({}, at::TensorOptions(kGpu).dtype(at::kFloat));
    double bytes = 0;
    for (int i = 0; i < 64; ++i) {
      const int64_t n = int64_t{1} << 24;
      AdamWParameter p{.param = Randn({n}),
                       .grad = Randn({n}),
                       .exp_avg = at::zeros({n}, at::TensorOptions(kGpu).dtype(state)),
                       .exp_avg_sq = at::zeros({n}, at::TensorOptions(kGpu).dtype(state))};
      bytes += static_cast<double>(2 * p.param.nbytes() + p.grad.nbytes() + 2 * p.exp_avg.nbytes() +
                                   2 * p.exp_avg_sq.nbytes());
      parameters.push_back(std::move(p));
    }
    bench.Bytes(std::string("adamw 64x2^24 bf16, states ") + c10::toString(state), bytes, [&] {
      AdamWStep(parameters, {.learning_rate = 1e-6, .grad_scale = scale, .stochastic = true});
    });
  }
}

}  // namespace liger::kernels::bench
