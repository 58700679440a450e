#include <algorithm>

#include "kernels/common/column_sum.cuh"
#include "kernels/common/row_pipeline.cuh"
#include "kernels/rms_norm/rms_norm_launch.h"

namespace liger::kernels::cuda {
namespace {

template <typename T, int N>
__device__ __forceinline__ Pack<T, N> Sum(const Pack<T, N>& a, const Pack<T, N>& b) {
  Pack<T, N> out;
#pragma unroll
  for (int j = 0; j < N; ++j) out.v[j] = FromFloat<T>(ToFloat(a.v[j]) + ToFloat(b.v[j]));
  return out;
}

// ADD: what is normalised is x + residual rounded to T, which goes to `added`.
template <bool ADD, typename T, typename W, int NV>
__global__ void __launch_bounds__(NV == 1 ? 256 : kMaxThreads)
    ForwardKernel(const T* __restrict__ x, const T* __restrict__ residual,
                  const W* __restrict__ weight, int64_t rows, int H, float eps, float offset,
                  bool round_xhat, T* __restrict__ y, T* __restrict__ added,
                  float* __restrict__ rstd) {
  constexpr int VEC = kWide<T>;
  extern __shared__ uint4 shared[];
  // A stage each: a block may be a row ahead of its slowest warp.
  __shared__ float scratch[kStages][32];
  Stages<T, NV> in(shared, H), in_residual(shared + kStages * (H / VEC), H);
  Pack<W, VEC> w[NV];
#pragma unroll
  for (int i = 0; i < NV; ++i) {
    if (in.Column(i) < H) w[i] = Load<VEC>(weight + in.Column(i));
  }
  const int64_t step = gridDim.x;
  const auto fetch = [&](int64_t row, int stage) {
    if (row < rows) {
      in.Fetch(x + row * H, stage);
      if constexpr (ADD) in_residual.Fetch(residual + row * H, stage);
    }
    __pipeline_commit();
  };
#pragma unroll
  for (int s = 0; s < kStages - 1; ++s) fetch(blockIdx.x + s * step, s);
  int stage = 0, ahead = kStages - 1;
  for (int64_t row = blockIdx.x; row < rows; row += step) {
    fetch(row + (kStages - 1) * step, ahead);
    __pipeline_wait_prior(kStages - 1);
    Pack<T, VEC> held[NV];
    float sum = 0;
#pragma unroll
    for (int i = 0; i < NV; ++i) {
      if (in.Column(i) >= H) break;
      held[i] = in.At(i, stage);
      if constexpr (ADD) {
        held[i] = Sum(held[i], in_residual.At(i, stage));
        Store<VEC>(added + row * H + in.Column(i), held[i]);
      }
#pragma unroll
      for (int j = 0; j < VEC; ++j) sum += ToFloat(held[i].v[j]) * ToFloat(held[i].v[j]);
    }
    sum = BlockSum(sum, scratch[stage]);
    const float r = 1.0f / sqrtf(sum / static_cast<float>(H) + eps);
    if (threadIdx.x == 0) rstd[row] = r;
#pragma unroll
    for (int i = 0; i < NV; ++i) {
      if (in.Column(i) >= H) break;
      Pack<T, VEC> out;
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        float xhat = ToFloat(held[i].v[j]) * r;
        if (round_xhat) xhat = RoundTo<T>(xhat);
        out.v[j] = FromFloat<T>(xhat * (ToFloat(w[i].v[j]) + offset));
      }
      Store<VEC>(y + row * H + in.Column(i), out);
    }
    stage = stage + 1 == kStages ? 0 : stage + 1;
    ahead = ahead + 1 == kStages ? 0 : ahead + 1;
  }
}

// dw is summed in registers and goes to this block's row of `partial` at the end. ADD: the
// gradient of x itself is added to what comes through the norm.
template <bool ADD, typename T, typename W, int NV>
__global__ void __launch_bounds__(NV == 1 ? 256 : kMaxThreads, NV == 1   ? 4
                                                               : NV == 2 ? 2
                                                                         : 1)
    BackwardKernel(const T* __restrict__ dy, const T* __restrict__ x, const W* __restrict__ weight,
                   const float* __restrict__ rstd, const T* __restrict__ dadded, int64_t rows,
                   int H, float offset, bool round_xhat, T* __restrict__ dx,
                   float* __restrict__ partial) {
  constexpr int VEC = kWide<T>;
  extern __shared__ uint4 shared[];
  // A stage each: a block may be a row ahead of its slowest warp.
  __shared__ float scratch[kStages][32];
  Stages<T, NV> in_dy(shared, H), in_x(shared + kStages * (H / VEC), H);
  Pack<W, VEC> w[NV];
#pragma unroll
  for (int i = 0; i < NV; ++i) {
    if (in_x.Column(i) < H) w[i] = Load<VEC>(weight + in_x.Column(i));
  }
  float dw[NV][VEC] = {};
  const int64_t step = gridDim.x;
  const auto fetch = [&](int64_t row, int stage) {
    if (row < rows) {
      in_dy.Fetch(dy + row * H, stage);
      in_x.Fetch(x + row * H, stage);
    }
    __pipeline_commit();
  };
#pragma unroll
  for (int s = 0; s < kStages - 1; ++s) fetch(blockIdx.x + s * step, s);
  float next_r = blockIdx.x < rows ? rstd[blockIdx.x] : 0;
  int stage = 0, ahead = kStages - 1;
  for (int64_t row = blockIdx.x; row < rows; row += step) {
    fetch(row + (kStages - 1) * step, ahead);
    const float r = next_r;
    if (row + step < rows) next_r = rstd[row + step];
    __pipeline_wait_prior(kStages - 1);
    float dot = 0;
#pragma unroll
    for (int i = 0; i < NV; ++i) {
      if (in_x.Column(i) >= H) break;
      const Pack<T, VEC> px = in_x.At(i, stage), pdy = in_dy.At(i, stage);
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        const float xhat = ToFloat(px.v[j]) * r, d = ToFloat(pdy.v[j]);
        dot += d * (ToFloat(w[i].v[j]) + offset) * xhat;
        dw[i][j] += d * (round_xhat ? RoundTo<T>(xhat) : xhat);
      }
    }
    if (dx != nullptr) {
      // On its way while the block waits for its sum.
      Pack<T, VEC> direct[ADD ? NV : 1];
      if constexpr (ADD) {
#pragma unroll
        for (int i = 0; i < NV; ++i) {
          if (in_x.Column(i) >= H) break;
          direct[i] = LoadOnce<VEC>(dadded + row * H + in_x.Column(i));
        }
      }
      const float mean = BlockSum(dot, scratch[stage]) / static_cast<float>(H);
#pragma unroll
      for (int i = 0; i < NV; ++i) {
        if (in_x.Column(i) >= H) break;
        const Pack<T, VEC> px = in_x.At(i, stage), pdy = in_dy.At(i, stage);
        Pack<T, VEC> out;
#pragma unroll
        for (int j = 0; j < VEC; ++j) {
          const float xhat = ToFloat(px.v[j]) * r;
          const float g = ToFloat(pdy.v[j]) * (ToFloat(w[i].v[j]) + offset);
          float d = r * (g - xhat * mean);
          if constexpr (ADD) d += ToFloat(direct[i].v[j]);
          out.v[j] = FromFloat<T>(d);
        }
        Store<VEC>(dx + row * H + in_x.Column(i), out);
      }
    }
    stage = stage + 1 == kStages ? 0 : stage + 1;
    ahead = ahead + 1 == kStages ? 0 : ahead + 1;
  }
  if (partial == nullptr) return;
#pragma unroll
  for (int i = 0; i < NV; ++i) {
    if (in_x.Column(i) >= H) break;
    float* out = partial + int64_t{blockIdx.x} * H + in_x.Column(i);
#pragma unroll
    for (int j = 0; j < VEC; j += 4) {
      Store<4>(out + j, Pack<float, 4>{dw[i][j], dw[i][j + 1], dw[i][j + 2], dw[i][j + 3]});
    }
  }
}

template <bool ADD, typename T, typename W>
__global__ void LongRowForwardKernel(const T* x, const T* __restrict__ residual,
                                     const W* __restrict__ weight, int64_t rows, int64_t H,
                                     float eps, float offset, bool round_xhat, T* __restrict__ y,
                                     T* added, float* __restrict__ rstd) {
  // A thread reads again only what it has written itself.
  const T* normed = ADD ? added : x;
  __shared__ float scratch[2][32];
  int parity = 0;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x, parity ^= 1) {
    float sum = 0;
    for (int64_t h = threadIdx.x; h < H; h += blockDim.x) {
      if constexpr (ADD) {
        added[row * H + h] = FromFloat<T>(ToFloat(x[row * H + h]) + ToFloat(residual[row * H + h]));
      }
      const float v = ToFloat(normed[row * H + h]);
      sum += v * v;
    }
    sum = BlockSum(sum, scratch[parity]);
    const float r = 1.0f / sqrtf(sum / static_cast<float>(H) + eps);
    if (threadIdx.x == 0) rstd[row] = r;
    for (int64_t h = threadIdx.x; h < H; h += blockDim.x) {
      float xhat = ToFloat(normed[row * H + h]) * r;
      if (round_xhat) xhat = RoundTo<T>(xhat);
      y[row * H + h] = FromFloat<T>(xhat * (ToFloat(weight[h]) + offset));
    }
  }
}

template <bool ADD, typename T, typename W>
__global__ void LongRowBackwardKernel(const T* __restrict__ dy, const T* __restrict__ x,
                                      const W* __restrict__ weight, const float* __restrict__ rstd,
                                      const T* __restrict__ dadded, int64_t rows, int64_t H,
                                      float offset, bool round_xhat, T* __restrict__ dx,
                                      float* __restrict__ partial) {
  __shared__ float scratch[2][32];
  if (partial != nullptr) {
    for (int64_t h = threadIdx.x; h < H; h += blockDim.x) partial[int64_t{blockIdx.x} * H + h] = 0;
  }
  int parity = 0;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x, parity ^= 1) {
    const float r = rstd[row];
    float dot = 0;
    for (int64_t h = threadIdx.x; h < H; h += blockDim.x) {
      const float xhat = ToFloat(x[row * H + h]) * r, d = ToFloat(dy[row * H + h]);
      dot += d * (ToFloat(weight[h]) + offset) * xhat;
      if (partial != nullptr) {
        partial[int64_t{blockIdx.x} * H + h] += d * (round_xhat ? RoundTo<T>(xhat) : xhat);
      }
    }
    if (dx == nullptr) continue;
    const float mean = BlockSum(dot, scratch[parity]) / static_cast<float>(H);
    for (int64_t h = threadIdx.x; h < H; h += blockDim.x) {
      const float g = ToFloat(dy[row * H + h]) * (ToFloat(weight[h]) + offset);
      float d = r * (g - ToFloat(x[row * H + h]) * r * mean);
      if constexpr (ADD) d += ToFloat(dadded[row * H + h]);
      dx[row * H + h] = FromFloat<T>(d);
    }
  }
}

// Calls f(std::bool_constant).
template <typename F>
void DispatchAdd(bool add, F&& f) {
  if (add) return f(std::true_type{});
  f(std::false_type{});
}

RowsShape Rows(const RmsNormShape& shape) {
  return {
      .dtype = shape.dtype, .weight_dtype = shape.weight_dtype, .rows = shape.rows, .H = shape.H};
}

}  // namespace

Error RmsNormForward(const Queue& queue, const RmsNormShape& shape, const void* x,
                     const void* residual, const void* weight, double eps, void* y, void* added,
                     float* rstd) {
  if (shape.rows == 0 || shape.H == 0) return 0;
  const RowsShape rows = Rows(shape);
  const bool add = residual != nullptr;
  // A null pointer is aligned.
  const RowPlan plan = PlanRow(rows, IsAligned(x) && IsAligned(residual) && IsAligned(weight) &&
                                         IsAligned(y) && IsAligned(added));
  DispatchTypes(rows, [&](auto t, auto w) {
    using T = typename decltype(t)::type;
    using W = typename decltype(w)::type;
    const auto run = [&](auto kernel, int per_sm, int threads, size_t shared, auto H) {
      const int64_t blocks = std::min(shape.rows, int64_t{per_sm} * queue.num_sms);
      kernel<<<static_cast<unsigned>(blocks), threads, shared, StreamOf(queue)>>>(
          static_cast<const T*>(x), static_cast<const T*>(residual), static_cast<const W*>(weight),
          shape.rows, H, static_cast<float>(eps), shape.offset, shape.round_xhat,
          static_cast<T*>(y), static_cast<T*>(added), rstd);
    };
    DispatchAdd(add, [&](auto is_add) {
      bool done = false;
      if (plan.fits()) {
        DispatchPacks(plan, [&](auto packs) {
          constexpr auto kKernel = &ForwardKernel<is_add(), T, W, packs()>;
          const size_t shared = StageBytes(rows, is_add() ? 2 : 1);
          const int per_sm = BlocksPerSm<kKernel>(plan.threads, shared);
          if (per_sm == 0) return;
          run(kKernel, per_sm, plan.threads, shared, static_cast<int>(shape.H));
          done = true;
        });
      }
      if (!done) run(LongRowForwardKernel<is_add(), T, W>, 4, kMaxThreads, 0, shape.H);
    });
  });
  return LaunchError();
}

int64_t RmsNormScratchRows(const Queue& queue, const RmsNormShape& shape) {
  const RowPlan plan = PlanRow(Rows(shape), true);
  const int64_t per_sm = PersistentBlocksPerSm(plan, StageBytes(Rows(shape), 2));
  return std::min<int64_t>(shape.rows, per_sm * queue.num_sms);
}

Error RmsNormBackward(const Queue& queue, const RmsNormShape& shape, const void* dy, const void* x,
                      const void* weight, const float* rstd, const void* dadded, void* dx,
                      void* dweight, float* scratch) {
  if (shape.H == 0) return 0;
  const RowsShape rows = Rows(shape);
  const int64_t blocks = RmsNormScratchRows(queue, shape);
  const bool aligned =
      IsAligned(dy) && IsAligned(x) && IsAligned(weight) && IsAligned(dadded) && IsAligned(dx);
  const RowPlan plan = PlanRow(rows, aligned);
  float* partial = dweight == nullptr ? nullptr : scratch;
  DispatchTypes(rows, [&](auto t, auto w) {
    using T = typename decltype(t)::type;
    using W = typename decltype(w)::type;
    const auto run = [&](auto kernel, int threads, size_t shared, auto H) {
      kernel<<<static_cast<unsigned>(blocks), threads, shared, StreamOf(queue)>>>(
          static_cast<const T*>(dy), static_cast<const T*>(x), static_cast<const W*>(weight), rstd,
          static_cast<const T*>(dadded), shape.rows, H, shape.offset, shape.round_xhat,
          static_cast<T*>(dx), partial);
    };
    DispatchAdd(dadded != nullptr, [&](auto is_add) {
      bool done = blocks == 0;
      if (!done && plan.fits()) {
        DispatchPacks(plan, [&](auto packs) {
          constexpr auto kKernel = &BackwardKernel<is_add(), T, W, packs()>;
          const size_t shared = StageBytes(rows, 2);
          if (BlocksPerSm<kKernel>(plan.threads, shared) == 0) return;
          run(kKernel, plan.threads, shared, static_cast<int>(shape.H));
          done = true;
        });
      }
      if (!done) run(LongRowBackwardKernel<is_add(), T, W>, kMaxThreads, 0, shape.H);
    });
    if (dweight != nullptr) {
      ColumnSum(queue, scratch, blocks, shape.H, static_cast<W*>(dweight));
    }
  });
  return LaunchError();
}

}  // namespace liger::kernels::cuda
