#include <algorithm>

#include "kernels/common/logits.cuh"
#include "kernels/common/logits_launch.h"

namespace liger::kernels::cuda {
namespace {

constexpr int kGradThreads = 256;
constexpr int kGradPacks = 4;

template <typename T, int VEC, bool kStats>
__global__ void __launch_bounds__(kReduceThreads)
    ReduceKernel(const T* __restrict__ logits, LogitsShape shape,
                 const int64_t* __restrict__ target, LogitsResults out) {
  const int64_t c = blockIdx.x;
  const int64_t y = target[c];
  if (y == shape.ignore_index) {
    if (threadIdx.x == 0) WriteIgnored<kStats>(c, out);
    return;
  }
  const T* row = logits + c * shape.stride;
  Sums s;
  for (int64_t v = int64_t{threadIdx.x} * VEC; v < shape.V; v += int64_t{kReduceThreads} * VEC) {
    float z[VEC];
    Unpack(Load<VEC>(row + v), z);
    Add<kStats, T>(z, s);
  }
  const Totals t = ReduceBlock<kStats>(s);
  if (threadIdx.x != 0) return;
  const bool in_range = y >= 0 && y < shape.V;
  WriteResults<kStats>(t, in_range ? ToFloat(row[y]) : NAN, c, shape.V, out);
}

template <int VEC>
constexpr int64_t kGradColumns = int64_t{kGradThreads} * VEC * kGradPacks;

// The gradient of kGradColumns columns of row c, from column `begin` on.
template <typename T, typename D, int VEC>
__device__ __forceinline__ void GradColumns(const T* logits, const LogitsShape& shape,
                                            const double* logsumexp, const int64_t* target,
                                            float factor, int64_t c, int64_t begin,
                                            int64_t out_stride, D* out) {
  const int64_t y = target[c];
  const T* row = logits + c * shape.stride;
  D* out_row = out + c * out_stride;
  const bool ignored = y == shape.ignore_index;
  const double lse = ignored ? 0 : logsumexp[c];
  const ExpMinus<T> softmax(lse);
#pragma unroll
  for (int i = 0; i < kGradPacks; ++i) {
    const int64_t v = begin + (int64_t{i} * kGradThreads + threadIdx.x) * VEC;
    if (v >= shape.V) return;
    float dz[VEC] = {};
    if (!ignored) {
      float z[VEC];
      Unpack(Load<VEC>(row + v), z);
      // -1 where the target is not among them; a comparison of 64 bits each would cost more than
      // the exponential.
      const int hit = y >= v && y < v + VEC ? static_cast<int>(y - v) : -1;
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        const float p = softmax(z[j]);
        dz[j] = factor * (j == hit ? p - 1.0f : p);
      }
    }
    Store<VEC>(out_row + v, Packed<D>(dz));
  }
}

template <typename T, typename D, int VEC>
__global__ void __launch_bounds__(kGradThreads)
    GradKernel(const T* logits, LogitsShape shape, const double* __restrict__ logsumexp,
               const int64_t* __restrict__ target, const float* __restrict__ factor,
               int64_t out_stride, D* out) {
  const int64_t c = blockIdx.y;
  GradColumns<T, D, VEC>(logits, shape, logsumexp, target, factor[c], c,
                         blockIdx.x * kGradColumns<VEC>, out_stride, out);
}

// Few blocks that walk over all rows: mostly there is nothing to do, and that must cost nothing.
template <typename T, int VEC>
__global__ void __launch_bounds__(kGradThreads)
    GradUnlessOneKernel(const T* logits, LogitsShape shape, const double* __restrict__ logsumexp,
                        const int64_t* __restrict__ target, const float* __restrict__ upstream,
                        float scale, int64_t out_stride, T* out) {
  if (*upstream == 1.0f) return;
  const float factor = *upstream * scale;
  const int64_t parts = (shape.V + kGradColumns<VEC> - 1) / kGradColumns<VEC>;
  for (int64_t i = blockIdx.x; i < shape.C * parts; i += gridDim.x) {
    GradColumns<T, T, VEC>(logits, shape, logsumexp, target, factor, i / parts,
                           i % parts * kGradColumns<VEC>, out_stride, out);
  }
}

}  // namespace

Error ReduceLogits(const Queue& queue, const LogitsShape& shape, const void* logits,
                   const int64_t* target, const LogitsResults& results) {
  if (shape.C == 0) return 0;
  DispatchDtype(shape.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const auto run = [&](auto vec, auto stats) {
      ReduceKernel<T, vec(), stats()>
          <<<GridOf(shape.C), kReduceThreads, 0, StreamOf(queue)>>>(
              static_cast<const T*>(logits), shape, target, results);
    };
    const auto with_stats = [&](auto vec) {
      if (results.entropy != nullptr) {
        run(vec, std::true_type{});
      } else {
        run(vec, std::false_type{});
      }
    };
    constexpr int kVec = kWide<T>;
    if (IsAligned(logits) && shape.V % kVec == 0 && shape.stride % kVec == 0) {
      with_stats(std::integral_constant<int, kVec>{});
    } else {
      with_stats(std::integral_constant<int, 1>{});
    }
  });
  return LaunchError();
}

Error CrossEntropyGrad(const Queue& queue, const LogitsShape& shape, const void* logits,
                       const double* logsumexp, const int64_t* target, const float* factor,
                       Dtype out_dtype, int64_t out_stride, void* out) {
  if (shape.C == 0 || shape.V == 0) return 0;
  DispatchDtype(shape.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const auto run = [&](auto d, auto vec) {
      using D = typename decltype(d)::type;
      constexpr int64_t kColumns = kGradColumns<vec()>;
      constexpr int64_t kMaxRows = 65535;
      for (int64_t c = 0; c < shape.C; c += kMaxRows) {
        const dim3 blocks(static_cast<unsigned>((shape.V + kColumns - 1) / kColumns),
                          static_cast<unsigned>(std::min(kMaxRows, shape.C - c)));
        GradKernel<T, D, vec()><<<blocks, kGradThreads, 0, StreamOf(queue)>>>(
            static_cast<const T*>(logits) + c * shape.stride, shape, logsumexp + c, target + c,
            factor + c, out_stride, static_cast<D*>(out) + c * out_stride);
      }
    };
    const auto with_out = [&](auto vec) {
      if (out_dtype == shape.dtype) {
        run(t, vec);
      } else {
        run(TypeTag<float>{}, vec);
      }
    };
    // Wide by the wider of the two types.
    constexpr int kVec = kWide<T>;
    const bool same = out_dtype == shape.dtype;
    if (same && IsAligned(logits) && IsAligned(out) && shape.V % kVec == 0 &&
        shape.stride % kVec == 0 && out_stride % kVec == 0) {
      run(t, std::integral_constant<int, kVec>{});
    } else {
      with_out(std::integral_constant<int, 1>{});
    }
  });
  return LaunchError();
}

Error CrossEntropyGradUnlessOne(const Queue& queue, const LogitsShape& shape, const void* logits,
                                const double* logsumexp, const int64_t* target,
                                const float* upstream, float scale, int64_t out_stride, void* out) {
  if (shape.C == 0 || shape.V == 0) return 0;
  DispatchDtype(shape.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const auto run = [&](auto vec) {
      const int64_t parts = (shape.V + kGradColumns<vec()> - 1) / kGradColumns<vec()>;
      const int64_t blocks = std::min(shape.C * parts, int64_t{8} * queue.num_sms);
      GradUnlessOneKernel<T, vec()>
          <<<GridOf(blocks), kGradThreads, 0, StreamOf(queue)>>>(
              static_cast<const T*>(logits), shape, logsumexp, target, upstream, scale, out_stride,
              static_cast<T*>(out));
    };
    constexpr int kVec = kWide<T>;
    if (IsAligned(logits) && IsAligned(out) && shape.V % kVec == 0 && shape.stride % kVec == 0 &&
        out_stride % kVec == 0) {
      run(std::integral_constant<int, kVec>{});
    } else {
      run(std::integral_constant<int, 1>{});
    }
  });
  return LaunchError();
}

}  // namespace liger::kernels::cuda
