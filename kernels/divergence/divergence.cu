#include <algorithm>

#include "kernels/common/device.cuh"
#include "kernels/divergence/divergence_launch.h"

namespace liger::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// One block a row.
template <typename T, int VEC, typename F>
__global__ void __launch_bounds__(kThreads) RowKernel(DivergenceIn in, F term, DivergenceOut out) {
  const int64_t row = blockIdx.x, first = row * in.V;
  const T* input = static_cast<const T*>(in.input) + first;
  const T* target = static_cast<const T*>(in.target) + first;
  T* terms = out.terms == nullptr ? nullptr : static_cast<T*>(out.terms) + first;
  T* grad = out.grad == nullptr ? nullptr : static_cast<T*>(out.grad) + first;
  const bool ignored = in.label != nullptr && in.label[row] == in.ignore_index;
  const float scale = out.scale == nullptr ? 1.0f : static_cast<float>(*out.scale);
  double sum = 0;
  for (int64_t v = int64_t{threadIdx.x} * VEC; v < in.V; v += int64_t{kThreads} * VEC) {
    float losses[VEC] = {}, grads[VEC] = {};
    if (!ignored) {
      float x[VEC], y[VEC], partial = 0;
      Unpack(LoadOnce<VEC>(input + v), x);
      Unpack(LoadOnce<VEC>(target + v), y);
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

template <typename T, int VEC>
__global__ void __launch_bounds__(kThreads)
    ScaleKernel(T* x, int64_t n, const float* __restrict__ factor) {
  const float f = *factor;
  if (f == 1.0f) return;
  const int64_t step = int64_t{gridDim.x} * kThreads * VEC;
  for (int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * VEC; i < n; i += step) {
    float values[VEC];
    Unpack(Load<VEC>(x + i), values);
#pragma unroll
    for (int j = 0; j < VEC; ++j) values[j] *= f;
    Store<VEC>(x + i, Packed<T>(values));
  }
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
            <<<static_cast<unsigned>(in.N), kThreads, 0, StreamOf(queue)>>>(in, term, out);
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

Error ScaleInPlace(const Queue& queue, Dtype dtype, int64_t n, const float* factor, void* x) {
  if (n == 0) return 0;
  DispatchDtype(dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const auto run = [&](auto vec) {
      // As many blocks as fit at once: where there is nothing to do, they cost next to nothing.
      const int64_t needed = (n + kThreads * vec() - 1) / (kThreads * vec());
      const int64_t blocks = std::min<int64_t>(needed, int64_t{8} * std::max(1, queue.num_sms));
      ScaleKernel<T, vec()><<<static_cast<unsigned>(blocks), kThreads, 0, StreamOf(queue)>>>(
          static_cast<T*>(x), n, factor);
    };
    if (IsAligned(x) && n % kWide<T> == 0) {
      run(std::integral_constant<int, kWide<T>>{});
    } else {
      run(std::integral_constant<int, 1>{});
    }
  });
  return LaunchError();
}

}  // namespace liger::kernels::cuda
