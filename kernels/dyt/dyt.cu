#include <algorithm>

#include "kernels/common/column_sum.cuh"
#include "kernels/common/row_pipeline.cuh"
#include "kernels/dyt/dyt_launch.h"

namespace liger::kernels::cuda {
namespace {

// A thread has one pack of columns and walks down the rows; gamma and the columns' sums stay in
// its registers. Threads that have no column of their own in a narrow row take other rows.
constexpr int kThreads = 256;
constexpr int kForwardBlocksPerSm = 5;
constexpr int kBackwardBlocksPerSm = 3;
constexpr int kAhead = 2;  // rows that a thread has on their way

struct TanhAndSlope {
  float t, slope;
};

// Of 16-bit data by one exponential; the odd polynomial where that would cancel.
template <typename T>
__device__ __forceinline__ TanhAndSlope TanhOf(float u) {
  if constexpr (sizeof(T) == 2) {
    const float e = __expf(-2.0f * fabsf(u)), r = __fdividef(1.0f, 1.0f + e), u2 = u * u;
    const float near_zero = u + u * u2 * (-0.333333333f + u2 * 0.133333333f);
    const float far = copysignf((1.0f - e) * r, u);
    return {fabsf(u) < 0.0625f ? near_zero : far, 4.0f * e * r * r};
  } else {
    const float t = tanhf(u);
    return {t, 1.0f - t * t};
  }
}

// The first column of this thread, and its first row.
template <int VEC>
__device__ __forceinline__ int64_t ColumnOf() {
  return (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * VEC;
}
__device__ __forceinline__ int64_t RowOf() {
  return int64_t{blockIdx.y} * blockDim.y + threadIdx.y;
}

template <typename T, typename W, int VEC>
__global__ void __launch_bounds__(kThreads, kForwardBlocksPerSm)
    ForwardKernel(const T* __restrict__ x, const W* __restrict__ alpha, const W* __restrict__ gamma,
                  const W* __restrict__ beta, int64_t rows, int64_t H, T* __restrict__ y) {
  const int64_t column = ColumnOf<VEC>(), step = int64_t{gridDim.y} * blockDim.y;
  if (column >= H) return;
  for (int64_t row = RowOf(); row < rows; row += kAhead * step) {
    // All loads before the first is waited for: no branches, the weights (from the cache) each
    // time.
    Pack<T, VEC> xs[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      xs[i] = Load<VEC>(x + min(row + i * step, rows - 1) * H + column);
    }
    const Pack<W, VEC> gammas = Load<VEC>(gamma + column);
    const Pack<W, VEC> betas = Load<VEC>((beta == nullptr ? gamma : beta) + column);
    const float a = ToFloat(*alpha);
    float w[VEC], b[VEC];
    Unpack(gammas, w);
    Unpack(betas, b);
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (row + i * step >= rows) break;
      float v[VEC];
      Unpack(xs[i], v);
#pragma unroll
      for (int j = 0; j < VEC; ++j)
        v[j] = w[j] * TanhOf<T>(a * v[j]).t + (beta == nullptr ? 0.0f : b[j]);
      Store<VEC>(y + (row + i * step) * H + column, Packed<T>(v));
    }
  }
}

// Sums over the threads of a block that have the same columns, to this block's row of `partial`.
template <int VEC>
__device__ __forceinline__ void StoreColumns(const float (&sums)[VEC], int64_t column, int64_t H,
                                             float* scratch, float* partial) {
  if (partial == nullptr) return;
  const int own = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x) * VEC;
  __syncthreads();
#pragma unroll
  for (int j = 0; j < VEC; ++j) scratch[own + j] = sums[j];
  __syncthreads();
  if (threadIdx.y != 0 || column >= H) return;
#pragma unroll
  for (int j = 0; j < VEC; ++j) {
    float sum = 0;
    for (unsigned i = 0; i < blockDim.y; ++i) {
      sum += scratch[(i * blockDim.x + threadIdx.x) * VEC + j];
    }
    partial[int64_t{blockIdx.y} * H + column + j] = sum;
  }
}

template <typename T, typename W, int VEC>
__global__ void __launch_bounds__(kThreads, kBackwardBlocksPerSm)
    BackwardKernel(const T* __restrict__ dy, const T* __restrict__ x, const W* __restrict__ alpha,
                   const W* __restrict__ gamma, int64_t rows, int64_t H, T* __restrict__ dx,
                   float* __restrict__ partial_alpha, float* __restrict__ partial_gamma,
                   float* __restrict__ partial_beta) {
  __shared__ float columns[kThreads * VEC];
  __shared__ double scratch[32];
  const int64_t column = ColumnOf<VEC>(), step = int64_t{gridDim.y} * blockDim.y;
  const float a = ToFloat(*alpha);
  float w[VEC], dgamma[VEC] = {}, dbeta[VEC] = {};
  double dalpha = 0;
  if (column < H) {
    Unpack(Load<VEC>(gamma + column), w);
    for (int64_t row = RowOf(); row < rows; row += kAhead * step) {
      Pack<T, VEC> xs[kAhead], ds[kAhead];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        if (row + i * step >= rows) break;
        xs[i] = Load<VEC>(x + (row + i * step) * H + column);
        ds[i] = Load<VEC>(dy + (row + i * step) * H + column);
      }
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        if (row + i * step >= rows) break;
        float v[VEC], d[VEC], partial = 0;
        Unpack(xs[i], v);
        Unpack(ds[i], d);
#pragma unroll
        for (int j = 0; j < VEC; ++j) {
          const TanhAndSlope tanh = TanhOf<T>(a * v[j]);
          const float du = d[j] * w[j] * tanh.slope;
          partial += du * v[j];
          dgamma[j] += d[j] * tanh.t;
          dbeta[j] += d[j];
          v[j] = du * a;
        }
        dalpha += double{partial};
        if (dx != nullptr) Store<VEC>(dx + (row + i * step) * H + column, Packed<T>(v));
      }
    }
  }
  StoreColumns(dgamma, column, H, columns, partial_gamma);
  StoreColumns(dbeta, column, H, columns, partial_beta);
  if (partial_alpha == nullptr) return;
  // BlockSum counts threads along x.
  const int thread = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x);
  dalpha = WarpSum(dalpha);
  if (thread % 32 == 0) scratch[thread / 32] = dalpha;
  __syncthreads();
  if (thread != 0) return;
  for (int i = 1; i < kThreads / 32; ++i) dalpha += scratch[i];
  partial_alpha[int64_t{blockIdx.y} * gridDim.x + blockIdx.x] = static_cast<float>(dalpha);
}

// Blocks of kThreads threads: x columns of packs, y rows.
struct Plan {
  dim3 blocks, threads;
};

// As many blocks as `most(blocks across)` allows, at least one.
template <typename F>
Plan PlanFor(const RowsShape& shape, int vec, F&& most) {
  const int64_t packs = (shape.H + vec - 1) / vec;
  unsigned x = 1;
  while (x < kThreads && x < packs) x *= 2;
  const unsigned y = kThreads / x;
  const int64_t across = (packs + x - 1) / x;
  const int64_t down = std::clamp<int64_t>((shape.rows + y - 1) / y, 1,
                                           std::clamp<int64_t>(most(across, y), 1, 65535));
  return {dim3(GridOf(across), static_cast<unsigned>(down)), dim3(x, y)};
}

// All rows at once, as far as a grid goes: what a kernel moves in 50 us is done sooner by many
// small blocks.
Plan ForwardPlan(const RowsShape& shape, int vec) {
  return PlanFor(shape, vec,
                 [&](int64_t, int64_t y) { return (shape.rows + kAhead * y - 1) / (kAhead * y); });
}

// Each block leaves partial sums of its columns.
Plan BackwardPlan(const Queue& queue, const RowsShape& shape, int vec) {
  return PlanFor(shape, vec, [&](int64_t across, int64_t) {
    return int64_t{kBackwardBlocksPerSm} * queue.num_sms / across;
  });
}

int64_t BackwardScratch(const Queue& queue, const RowsShape& shape, int vec) {
  const Plan plan = BackwardPlan(queue, shape, vec);
  return int64_t{plan.blocks.y} * (2 * shape.H + plan.blocks.x);
}

// Calls f(T, W, VEC) with the widest loads that H and the pointers allow.
template <typename F>
void Dispatch(const RowsShape& shape, bool aligned, F&& f) {
  DispatchTypes(shape, [&](auto t, auto w) {
    using T = typename decltype(t)::type;
    if (aligned && shape.H % kWide<T> == 0) {
      f(t, w, std::integral_constant<int, kWide<T>>{});
    } else {
      f(t, w, std::integral_constant<int, 1>{});
    }
  });
}

}  // namespace

Error DytForward(const Queue& queue, const RowsShape& shape, const void* x, const void* alpha,
                 const void* gamma, const void* beta, void* y) {
  if (shape.rows == 0) return 0;
  const bool aligned = IsAligned(x) && IsAligned(gamma) && IsAligned(beta) && IsAligned(y);
  Dispatch(shape, aligned, [&](auto t, auto w, auto vec) {
    using T = typename decltype(t)::type;
    using W = typename decltype(w)::type;
    const Plan plan = ForwardPlan(shape, vec());
    ForwardKernel<T, W, vec()><<<plan.blocks, plan.threads, 0, StreamOf(queue)>>>(
        static_cast<const T*>(x), static_cast<const W*>(alpha), static_cast<const W*>(gamma),
        static_cast<const W*>(beta), shape.rows, shape.H, static_cast<T*>(y));
  });
  return LaunchError();
}

int64_t DytBackwardScratch(const Queue& queue, const RowsShape& shape) {
  const int wide = shape.dtype == Dtype::kFloat ? 4 : 8;
  return std::max(BackwardScratch(queue, shape, wide), BackwardScratch(queue, shape, 1));
}

Error DytBackward(const Queue& queue, const RowsShape& shape, const void* dy, const void* x,
                  const void* alpha, const void* gamma, float* scratch, const DytGrads& out) {
  const bool aligned = IsAligned(dy) && IsAligned(x) && IsAligned(gamma) && IsAligned(out.dx);
  Dispatch(shape, aligned, [&](auto t, auto w, auto vec) {
    using T = typename decltype(t)::type;
    using W = typename decltype(w)::type;
    // Without rows the sums are zero.
    const Plan plan = BackwardPlan(queue, shape, vec());
    const int64_t down = plan.blocks.y;
    float *dgamma = scratch, *dbeta = dgamma + down * shape.H, *dalpha = dbeta + down * shape.H;
    BackwardKernel<T, W, vec()><<<plan.blocks, plan.threads, 0, StreamOf(queue)>>>(
        static_cast<const T*>(dy), static_cast<const T*>(x), static_cast<const W*>(alpha),
        static_cast<const W*>(gamma), shape.rows, shape.H, static_cast<T*>(out.dx),
        out.dalpha == nullptr ? nullptr : dalpha, out.dgamma == nullptr ? nullptr : dgamma,
        out.dbeta == nullptr ? nullptr : dbeta);
    const auto sum = [&](const float* partial, int64_t rows, int64_t H, void* grad) {
      if (grad != nullptr) ColumnSum(queue, partial, rows, H, static_cast<W*>(grad));
    };
    sum(dgamma, down, shape.H, out.dgamma);
    sum(dbeta, down, shape.H, out.dbeta);
    sum(dalpha, down * plan.blocks.x, 1, out.dalpha);
  });
  return LaunchError();
}

}  // namespace liger::kernels::cuda
