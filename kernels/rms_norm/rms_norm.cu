#include <algorithm>

#include "kernels/common/column_sum.cuh"
#include "kernels/common/device.cuh"
#include "kernels/rms_norm/rms_norm_launch.h"

namespace liger::kernels::cuda {
namespace {

// A row is held in registers by the threads of a block: NV packs of VEC elements each. An
// unaligned row takes VEC = 1; what does not fit into the registers is read again.
constexpr int kMaxPacks = 4;
constexpr int kMaxThreads = 512;
// A row that fits into one pack a thread never takes more threads than this.
constexpr int kFewThreads = 256;
template <int NV>
inline constexpr int kThreads = NV == 1 ? kFewThreads : kMaxThreads;

struct RowPlan {
  int vec, packs, threads;
  int64_t held() const { return int64_t{vec} * packs * threads; }
};

RowPlan PlanRow(int64_t H, int wide, bool aligned) {
  RowPlan plan{.vec = aligned && H % wide == 0 ? wide : 1, .packs = 1, .threads = 32};
  const int64_t packs = (H + plan.vec - 1) / plan.vec;
  if (packs > kFewThreads) plan.packs = 2;
  if (packs > 2 * kMaxThreads) plan.packs = kMaxPacks;
  const int64_t threads = (packs + plan.packs - 1) / plan.packs;
  plan.threads = static_cast<int>(std::min<int64_t>(kMaxThreads, (threads + 31) / 32 * 32));
  return plan;
}

// Blocks walk over rows; the next row is on its way while this one is reduced.
template <typename T, typename W, int VEC, int NV>
__global__ void __launch_bounds__(kThreads<NV>)
    ForwardKernel(const T* __restrict__ x, const W* __restrict__ weight, int64_t rows, int64_t H,
                  float eps, float offset, bool round_xhat, T* __restrict__ y,
                  float* __restrict__ rstd) {
  __shared__ float scratch[2][32];
  const int step = static_cast<int>(blockDim.x) * VEC, first = static_cast<int>(threadIdx.x) * VEC;
  Pack<T, VEC> held[NV], next[NV];
  Pack<W, VEC> w[NV];
  const auto fetch = [&](int64_t row) {
#pragma unroll
    for (int i = 0; i < NV; ++i) {
      if (first + i * step < H) next[i] = LoadOnce<VEC>(x + row * H + first + i * step);
    }
  };
#pragma unroll
  for (int i = 0; i < NV; ++i) {
    if (first + i * step < H) w[i] = Load<VEC>(weight + first + i * step);
  }
  int64_t row = blockIdx.x;
  if (row < rows) fetch(row);
  for (int parity = 0; row < rows; row += gridDim.x, parity ^= 1) {
#pragma unroll
    for (int i = 0; i < NV; ++i) held[i] = next[i];
    if (row + gridDim.x < rows) fetch(row + gridDim.x);
    float sum = 0;
#pragma unroll
    for (int i = 0; i < NV; ++i) {
      if (first + i * step >= H) break;
#pragma unroll
      for (int j = 0; j < VEC; ++j) sum += ToFloat(held[i].v[j]) * ToFloat(held[i].v[j]);
    }
    sum = BlockSum(sum, scratch[parity]);
    const float r = 1.0f / sqrtf(sum / static_cast<float>(H) + eps);
    if (threadIdx.x == 0) rstd[row] = r;
#pragma unroll
    for (int i = 0; i < NV; ++i) {
      if (first + i * step >= H) break;
      Pack<T, VEC> out;
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        float xhat = ToFloat(held[i].v[j]) * r;
        if (round_xhat) xhat = RoundTo<T>(xhat);
        out.v[j] = FromFloat<T>(xhat * (ToFloat(w[i].v[j]) + offset));
      }
      Store<VEC>(y + row * H + first + i * step, out);
    }
  }
}

// Rows too long for registers.
template <typename T, typename W>
__global__ void LongRowForwardKernel(const T* __restrict__ x, const W* __restrict__ weight,
                                     int64_t rows, int64_t H, float eps, float offset,
                                     bool round_xhat, T* __restrict__ y,
                                     float* __restrict__ rstd) {
  __shared__ float scratch[2][32];
  int parity = 0;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x, parity ^= 1) {
    float sum = 0;
    for (int64_t h = threadIdx.x; h < H; h += blockDim.x) {
      const float v = ToFloat(x[row * H + h]);
      sum += v * v;
    }
    sum = BlockSum(sum, scratch[parity]);
    const float r = 1.0f / sqrtf(sum / static_cast<float>(H) + eps);
    if (threadIdx.x == 0) rstd[row] = r;
    for (int64_t h = threadIdx.x; h < H; h += blockDim.x) {
      float xhat = ToFloat(x[row * H + h]) * r;
      if (round_xhat) xhat = RoundTo<T>(xhat);
      y[row * H + h] = FromFloat<T>(xhat * (ToFloat(weight[h]) + offset));
    }
  }
}

// Blocks walk over rows; the next row is on its way while this one is reduced, as long as
// both fit into the registers. dw is summed in registers and goes to this block's row of `partial` at the end.
template <typename T, typename W, int VEC, int NV>
__global__ void __launch_bounds__(kThreads<NV>)
    BackwardKernel(const T* __restrict__ dy, const T* __restrict__ x, const W* __restrict__ weight,
                   const float* __restrict__ rstd, int64_t rows, int64_t H, float offset,
                   bool round_xhat, T* __restrict__ dx, float* __restrict__ partial) {
  constexpr bool kPrefetch = NV < kMaxPacks;
  __shared__ float scratch[2][32];
  const int step = static_cast<int>(blockDim.x) * VEC, first = static_cast<int>(threadIdx.x) * VEC;
  Pack<T, VEC> next_dy[NV], next_x[NV];
  float next_r = 0;
  Pack<W, VEC> w[NV];
  float dw[NV][VEC] = {};
  const auto fetch = [&](int64_t row) {
    next_r = rstd[row];
#pragma unroll
    for (int i = 0; i < NV; ++i) {
      const int h = first + i * step;
      if (h >= H) break;
      next_dy[i] = LoadOnce<VEC>(dy + row * H + h);
      next_x[i] = LoadOnce<VEC>(x + row * H + h);
    }
  };
#pragma unroll
  for (int i = 0; i < NV; ++i) {
    const int h = first + i * step;
    if (h < H) w[i] = Load<VEC>(weight + h);
  }
  int64_t row = blockIdx.x;
  if (kPrefetch && row < rows) fetch(row);
  for (int parity = 0; row < rows; row += gridDim.x, parity ^= 1) {
    if (!kPrefetch) fetch(row);
    const float r = next_r;
    Pack<T, VEC> this_dy[NV], this_x[NV];
#pragma unroll
    for (int i = 0; i < NV; ++i) {
      this_dy[i] = next_dy[i];
      this_x[i] = next_x[i];
    }
    if (kPrefetch && row + gridDim.x < rows) fetch(row + gridDim.x);
    float dot = 0;
#pragma unroll
    for (int i = 0; i < NV; ++i) {
      if (first + i * step >= H) break;
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        const float xhat = ToFloat(this_x[i].v[j]) * r, d = ToFloat(this_dy[i].v[j]);
        dot += d * (ToFloat(w[i].v[j]) + offset) * xhat;
        dw[i][j] += d * (round_xhat ? RoundTo<T>(xhat) : xhat);
      }
    }
    if (dx == nullptr) continue;
    const float mean = BlockSum(dot, scratch[parity]) / static_cast<float>(H);
#pragma unroll
    for (int i = 0; i < NV; ++i) {
      const int h = first + i * step;
      if (h >= H) break;
      Pack<T, VEC> out;
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        const float xhat = ToFloat(this_x[i].v[j]) * r;
        const float g = ToFloat(this_dy[i].v[j]) * (ToFloat(w[i].v[j]) + offset);
        out.v[j] = FromFloat<T>(r * (g - xhat * mean));
      }
      Store<VEC>(dx + row * H + h, out);
    }
  }
  if (partial == nullptr) return;
#pragma unroll
  for (int i = 0; i < NV; ++i) {
    const int h = first + i * step;
    if (h >= H) break;
#pragma unroll
    for (int j = 0; j < VEC; ++j) partial[int64_t{blockIdx.x} * H + h + j] = dw[i][j];
  }
}

// Rows too long for registers.
template <typename T, typename W>
__global__ void LongRowBackwardKernel(const T* __restrict__ dy, const T* __restrict__ x,
                                      const W* __restrict__ weight,
                                      const float* __restrict__ rstd, int64_t rows, int64_t H,
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
      dx[row * H + h] = FromFloat<T>(r * (g - ToFloat(x[row * H + h]) * r * mean));
    }
  }
}

// Calls f(TypeTag<T>, TypeTag<W>).
template <typename F>
void DispatchTypes(const RmsNormShape& shape, F&& f) {
  DispatchDtype(shape.dtype, [&](auto t) {
    if (shape.weight_dtype == shape.dtype) {
      f(t, t);
    } else {
      f(t, TypeTag<float>{});
    }
  });
}

template <typename F>
void DispatchPlan(const RowPlan& plan, int wide, F&& f) {
  const auto packs = [&](auto vec) {
    if (plan.packs == 1) return f(vec, std::integral_constant<int, 1>{});
    if (plan.packs == 2) return f(vec, std::integral_constant<int, 2>{});
    return f(vec, std::integral_constant<int, 4>{});
  };
  if (plan.vec == 1) return packs(std::integral_constant<int, 1>{});
  if (wide == 4) return packs(std::integral_constant<int, 4>{});
  packs(std::integral_constant<int, 8>{});
}

int Wide(Dtype dtype) { return dtype == Dtype::kFloat ? 4 : 8; }

RowPlan Plan(const RmsNormShape& shape, bool aligned) {
  return PlanRow(shape.H, Wide(shape.dtype), aligned);
}

}  // namespace

Error RmsNormForward(const Queue& queue, const RmsNormShape& shape, const void* x,
                     const void* weight, double eps, void* y, float* rstd) {
  if (shape.rows == 0 || shape.H == 0) return 0;
  const bool aligned = IsAligned(x) && IsAligned(weight) && IsAligned(y);
  const int wide = Wide(shape.dtype);
  const RowPlan plan = Plan(shape, aligned);
  // As many blocks as run at once, by threads: each keeps its weights and walks over rows.
  const int64_t per_sm = 2048 / plan.threads;
  const auto blocks = static_cast<unsigned>(std::min(shape.rows, per_sm * queue.num_sms));
  DispatchTypes(shape, [&](auto t, auto w) {
    using T = typename decltype(t)::type;
    using W = typename decltype(w)::type;
    const auto run = [&](auto kernel, int threads) {
      kernel<<<blocks, threads, 0, StreamOf(queue)>>>(
          static_cast<const T*>(x), static_cast<const W*>(weight), shape.rows, shape.H,
          static_cast<float>(eps), shape.offset, shape.round_xhat, static_cast<T*>(y), rstd);
    };
    if (plan.held() < shape.H) return run(LongRowForwardKernel<T, W>, kMaxThreads);
    DispatchPlan(plan, wide, [&](auto vec, auto packs) {
      if constexpr (vec() == 1 || vec() == kWide<T>) {
        run(ForwardKernel<T, W, vec(), packs()>, plan.threads);
      }
    });
  });
  return LaunchError();
}

int64_t RmsNormScratchRows(const Queue& queue, const RmsNormShape& shape) {
  // Blocks that fit at once, by threads; more would only make more partial sums.
  const RowPlan plan = Plan(shape, true);
  const int64_t per_sm = std::max(1, 1024 / plan.threads);
  return std::min<int64_t>(shape.rows, per_sm * queue.num_sms);
}

Error RmsNormBackward(const Queue& queue, const RmsNormShape& shape, const void* dy, const void* x,
                      const void* weight, const float* rstd, void* dx, void* dweight,
                      float* scratch) {
  if (shape.H == 0) return 0;
  const int64_t blocks = RmsNormScratchRows(queue, shape);
  const bool aligned = IsAligned(dy) && IsAligned(x) && IsAligned(weight) && IsAligned(dx);
  const int wide = Wide(shape.dtype);
  const RowPlan plan = Plan(shape, aligned);
  float* partial = dweight == nullptr ? nullptr : scratch;
  DispatchTypes(shape, [&](auto t, auto w) {
    using T = typename decltype(t)::type;
    using W = typename decltype(w)::type;
    const auto run = [&](auto kernel, int threads) {
      if (blocks == 0) return;
      kernel<<<static_cast<unsigned>(blocks), threads, 0, StreamOf(queue)>>>(
          static_cast<const T*>(dy), static_cast<const T*>(x), static_cast<const W*>(weight), rstd,
          shape.rows, shape.H, shape.offset, shape.round_xhat, static_cast<T*>(dx), partial);
    };
    if (plan.held() < shape.H) {
      run(LongRowBackwardKernel<T, W>, kMaxThreads);
    } else {
      DispatchPlan(plan, wide, [&](auto vec, auto packs) {
        if constexpr (vec() == 1 || vec() == kWide<T>) {
          run(BackwardKernel<T, W, vec(), packs()>, plan.threads);
        }
      });
    }
    if (dweight != nullptr) {
      ColumnSum(queue, scratch, blocks, shape.H, static_cast<W*>(dweight));
    }
  });
  return LaunchError();
}

}  // namespace liger::kernels::cuda
