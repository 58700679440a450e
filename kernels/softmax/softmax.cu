#include <algorithm>
#include <cmath>

#include "kernels/common/row_held.cuh"
#include "kernels/common/row_pipeline.cuh"
#include "kernels/softmax/softmax_launch.h"

namespace liger::kernels::cuda {
namespace {

// As BlockSum. NaN stays: fmaxf would drop it.
__device__ __forceinline__ float Larger(float a, float b) { return a > b || isnan(a) ? a : b; }

__device__ __forceinline__ float WarpMax(float v) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    v = Larger(v, __shfl_xor_sync(0xffffffffu, v, offset));
  }
  return v;
}

__device__ __forceinline__ float BlockMax(float v, float* scratch) {
  v = WarpMax(v);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int warps = (static_cast<int>(blockDim.x) + 31) / 32;
  if (warps == 1) return v;
  if (lane == 0) scratch[warp] = v;
  __syncthreads();
  return WarpMax(lane < warps ? scratch[lane] : -INFINITY);
}

template <typename T, typename Hold>
__global__ void __launch_bounds__(Hold::kMostThreads, Hold::kMinBlocks)
    ForwardKernel(const T* __restrict__ x, int64_t rows, int H, T* __restrict__ y) {
  constexpr int VEC = kWide<T>, NV = Hold::kPacks;
  __shared__ float scratch[2][32];
  const int64_t row = Hold::Row();
  if (row >= rows) return;
  const int packs = H / VEC;
  const int64_t first = row * H;
  Pack<T, VEC> in[NV];
#pragma unroll
  for (int i = 0; i < NV; ++i) {
    if (Hold::Column(i) < packs) in[i] = Load<VEC>(x + first + Hold::Column(i) * VEC);
  }
  float held[NV][VEC];
  float max = -INFINITY, sum = 0;
#pragma unroll
  for (int i = 0; i < NV; ++i) {
    if (Hold::Column(i) >= packs) break;
    Unpack(in[i], held[i]);
#pragma unroll
    for (int j = 0; j < VEC; ++j) max = Larger(max, held[i][j]);
  }
  max = Hold::kIsWarp ? WarpMax(max) : BlockMax(max, scratch[0]);
#pragma unroll
  for (int i = 0; i < NV; ++i) {
    if (Hold::Column(i) >= packs) break;
#pragma unroll
    for (int j = 0; j < VEC; ++j) {
      held[i][j] = expf(held[i][j] - max);
      sum += held[i][j];
    }
  }
  const float scale = 1.0f / Hold::Sum(sum, scratch[1]);
#pragma unroll
  for (int i = 0; i < NV; ++i) {
    if (Hold::Column(i) >= packs) break;
#pragma unroll
    for (int j = 0; j < VEC; ++j) held[i][j] *= scale;
    Store<VEC>(y + first + Hold::Column(i) * VEC, Packed<T>(held[i]));
  }
}

template <typename T, int NV>
__global__ void __launch_bounds__(NV == 1 ? 256 : kMaxThreads)
    BackwardKernel(const T* __restrict__ dy, const T* __restrict__ y, int64_t rows, int H,
                   T* __restrict__ dx) {
  constexpr int VEC = kWide<T>;
  extern __shared__ uint4 shared[];
  __shared__ float scratch[kStages][32];
  Stages<T, NV> in_dy(shared, H), in_y(shared + kStages * (H / VEC), H);
  const int64_t step = gridDim.x;
  const auto fetch = [&](int64_t row, int stage) {
    if (row < rows) {
      in_dy.Fetch(dy + row * H, stage);
      in_y.Fetch(y + row * H, stage);
    }
    __pipeline_commit();
  };
#pragma unroll
  for (int s = 0; s < kStages - 1; ++s) fetch(blockIdx.x + s * step, s);
  int stage = 0, ahead = kStages - 1;
  for (int64_t row = blockIdx.x; row < rows; row += step) {
    fetch(row + (kStages - 1) * step, ahead);
    __pipeline_wait_prior(kStages - 1);
    float dot = 0;
#pragma unroll
    for (int i = 0; i < NV; ++i) {
      if (in_y.Column(i) >= H) break;
      const Pack<T, VEC> py = in_y.At(i, stage), pdy = in_dy.At(i, stage);
#pragma unroll
      for (int j = 0; j < VEC; ++j) dot += ToFloat(pdy.v[j]) * ToFloat(py.v[j]);
    }
    dot = BlockSum(dot, scratch[stage]);
#pragma unroll
    for (int i = 0; i < NV; ++i) {
      if (in_y.Column(i) >= H) break;
      const Pack<T, VEC> py = in_y.At(i, stage), pdy = in_dy.At(i, stage);
      float out[VEC];
#pragma unroll
      for (int j = 0; j < VEC; ++j) out[j] = ToFloat(py.v[j]) * (ToFloat(pdy.v[j]) - dot);
      Store<VEC>(dx + row * H + in_y.Column(i), Packed<T>(out));
    }
    stage = stage + 1 == kStages ? 0 : stage + 1;
    ahead = ahead + 1 == kStages ? 0 : ahead + 1;
  }
}

// Rows that are not whole packs, not aligned or too long for the chip.
template <typename T>
__global__ void LongRowForwardKernel(const T* __restrict__ x, int64_t rows, int64_t H,
                                     T* __restrict__ y) {
  __shared__ float scratch[2][32];
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const T* in = x + row * H;
    float max = -INFINITY, sum = 0;
    for (int64_t h = threadIdx.x; h < H; h += blockDim.x) max = Larger(max, ToFloat(in[h]));
    max = BlockMax(max, scratch[0]);
    for (int64_t h = threadIdx.x; h < H; h += blockDim.x) sum += expf(ToFloat(in[h]) - max);
    const float scale = 1.0f / BlockSum(sum, scratch[1]);
    for (int64_t h = threadIdx.x; h < H; h += blockDim.x) {
      y[row * H + h] = FromFloat<T>(expf(ToFloat(in[h]) - max) * scale);
    }
  }
}

template <typename T>
__global__ void LongRowBackwardKernel(const T* __restrict__ dy, const T* __restrict__ y,
                                      int64_t rows, int64_t H, T* __restrict__ dx) {
  __shared__ float scratch[2][32];
  int parity = 0;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x, parity ^= 1) {
    float dot = 0;
    for (int64_t h = threadIdx.x; h < H; h += blockDim.x) {
      dot += ToFloat(dy[row * H + h]) * ToFloat(y[row * H + h]);
    }
    dot = BlockSum(dot, scratch[parity]);
    for (int64_t h = threadIdx.x; h < H; h += blockDim.x) {
      dx[row * H + h] = FromFloat<T>(ToFloat(y[row * H + h]) * (ToFloat(dy[row * H + h]) - dot));
    }
  }
}

constexpr int kLongBlocksPerSm = 4;

unsigned BlockCount(const Queue& queue, const RowsShape& shape, int per_sm) {
  return static_cast<unsigned>(std::min(shape.rows, int64_t{per_sm} * queue.num_sms));
}

}  // namespace

Error SoftmaxForward(const Queue& queue, const RowsShape& shape, const void* x, void* y) {
  if (shape.rows == 0 || shape.H == 0) return 0;
  const bool aligned = IsAligned(x) && IsAligned(y);
  DispatchDtype(shape.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const auto run = [&](auto kernel, int threads, int64_t blocks, auto H) {
      kernel<<<GridOf(blocks), threads, 0, StreamOf(queue)>>>(static_cast<const T*>(x), shape.rows,
                                                              H, static_cast<T*>(y));
    };
    const bool held = DispatchRowHold(shape, aligned, [&](auto hold, int threads, int64_t blocks) {
      run(ForwardKernel<T, decltype(hold)>, threads, blocks, static_cast<int>(shape.H));
    });
    if (held) return;
    run(LongRowForwardKernel<T>, kMaxThreads, BlockCount(queue, shape, kLongBlocksPerSm), shape.H);
  });
  return LaunchError();
}

Error SoftmaxBackward(const Queue& queue, const RowsShape& shape, const void* dy, const void* y,
                      void* dx) {
  if (shape.rows == 0 || shape.H == 0) return 0;
  const RowPlan plan = PlanRow(shape, IsAligned(dy) && IsAligned(y) && IsAligned(dx));
  DispatchDtype(shape.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const auto run = [&](auto kernel, int per_sm, int threads, size_t shared, auto H) {
      kernel<<<BlockCount(queue, shape, per_sm), threads, shared, StreamOf(queue)>>>(
          static_cast<const T*>(dy), static_cast<const T*>(y), shape.rows, H, static_cast<T*>(dx));
    };
    int per_sm = 0;
    if (plan.fits()) {
      DispatchPacks(plan, [&](auto packs) {
        constexpr auto kKernel = &BackwardKernel<T, packs()>;
        const size_t shared = StageBytes(shape, 2);
        per_sm = BlocksPerSm<kKernel>(plan.threads, shared);
        if (per_sm > 0) run(kKernel, per_sm, plan.threads, shared, static_cast<int>(shape.H));
      });
    }
    if (per_sm == 0) run(LongRowBackwardKernel<T>, kLongBlocksPerSm, kMaxThreads, 0, shape.H);
  });
  return LaunchError();
}

}  // namespace liger::kernels::cuda
