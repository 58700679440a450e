#include "kernels/common/device.cuh"
#include "kernels/divergence/divergence_launch.h"

namespace liger::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// One block a row.
template <typename T, int VEC, typename F>
__global__ void __launch_bounds__(kThreads) RowKernel(DivergenceIn in, F term, DivergenceOut out) {
  if (out.upstream != nullptr && *out.upstream == 1) return;
  const int64_t row = blockIdx.x, first = row * in.V;
  const T* input = static_cast<const T*>(in.input) + first;
  const T* target = static_cast<const T*>(in.target) + first;
  T* terms = out.terms == nullptr ? nullptr : static_cast<T*>(out.terms) + first;
  T* grad = out.grad == nullptr ? nullptr : static_cast<T*>(out.grad) + first;
  const bool ignored = in.label != nullptr && in.label[row] == in.ignore_index;
  const float scale =
      static_cast<float>(out.upstream == nullptr ? *out.scale : *out.scale * *out.upstream);
  double sum = 0;
  for (int64_t v = int64_t{threadIdx.x} * VEC; v < in.V; v += int64_t{kThreads} * VEC) {
    float losses[VEC] = {}, grads[VEC] = {};
    if (!ignored) {
      float x[VEC], y[VEC], partial = 0;
      Unpack(Load<VEC>(input + v), x);
      Unpack(Load<VEC>(target + v), y);
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        const divergence::Term<float> t = term(x[j], y[j]);
        losses[j] = t.loss;
        grads[j] = scale * t.grad;
        partial += t.loss;
      }
      sum += partial;
    }
    if (terms != nullptr) Store<VEC>(terms + v, Packed<T>(losses));
    if (grad != nullptr) Store<VEC>(grad + v, Packed<T>(grads));
  }
  __shared__ double scratch[32];
  sum = BlockSum(sum, scratch);
  if (threadIdx.x == 0) out.row_sums[row] = sum;
}

}  // namespace

Error Divergence(const Queue& queue, divergence::Kind kind, double parameter,
                 const DivergenceIn& in, const DivergenceOut& out) {
  if (in.N == 0) return 0;
  const bool aligned = IsAligned(in.input) && IsAligned(in.target) && IsAligned(out.terms) &&
                       IsAligned(out.grad);
  DispatchDtype(in.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    divergence::DispatchKind(kind, parameter, [&](auto term) {
      const auto run = [&](auto vec) {
        RowKernel<T, vec()>
            <<<GridOf(in.N), kThreads, 0, StreamOf(queue)>>>(in, term, out);
      };
      if (aligned && in.V % kWide<T> == 0) {
        run(std::integral_constant<int, kWide<T>>{});
      } else {
        run(std::integral_constant<int, 1>{});
      }
    });
  });
  return LaunchError();
}

}  // namespace liger::kernels::cuda
