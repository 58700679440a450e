#include <algorithm>

#include "kernels/common/column_sum.cuh"
#include "kernels/common/row_held.cuh"
#include "kernels/common/row_pipeline.cuh"
#include "kernels/rms_norm/rms_norm_launch.h"

namespace liger::kernels::cuda {
namespace {

// ADD: what is normalised is x + residual rounded to T, which goes to `added`.
template <bool ADD, typename T, typename W, typename Hold>
__global__ void __launch_bounds__(Hold::kMostThreads, Hold::kMinBlocks)
    ForwardKernel(const T* __restrict__ x, const T* __restrict__ residual,
                  const W* __restrict__ weight, int64_t rows, int H, float eps, float offset,
                  bool round_xhat, T* __restrict__ y, T* __restrict__ added,
                  float* __restrict__ rstd) {
  constexpr int VEC = kWide<T>, NV = Hold::kPacks;
  __shared__ float scratch[32];
  const int64_t row = Hold::Row();
  if (row >= rows) return;
  const int packs = H / VEC;
  const int64_t first = row * H;
  Pack<T, VEC> held[NV], other[ADD ? NV : 1];
#pragma unroll
  for (int i = 0; i < NV; ++i) {
    if (Hold::Column(i) >= packs) break;
    held[i] = Load<VEC>(x + first + Hold::Column(i) * VEC);
    if constexpr (ADD) other[i] = Load<VEC>(residual + first + Hold::Column(i) * VEC);
  }
  float sum = 0;
#pragma unroll
  for (int i = 0; i < NV; ++i) {
    if (Hold::Column(i) >= packs) break;
    float v[VEC];
    Unpack(held[i], v);
    if constexpr (ADD) {
      float r[VEC];
      Unpack(other[i], r);
#pragma unroll
      for (int j = 0; j < VEC; ++j) v[j] += r[j];
      held[i] = Packed<T>(v);
      Store<VEC>(added + first + Hold::Column(i) * VEC, held[i]);
      Unpack(held[i], v);
    }
#pragma unroll
    for (int j = 0; j < VEC; ++j) sum += v[j] * v[j];
  }
  sum = Hold::Sum(sum, scratch);
  const float r = 1.0f / sqrtf(sum / static_cast<float>(H) + eps);
  if (Hold::Rank() == 0) rstd[row] = r;
#pragma unroll
  for (int i = 0; i < NV; ++i) {
    if (Hold::Column(i) >= packs) break;
    float v[VEC], w[VEC];
    Unpack(held[i], v);
    Unpack(Load<VEC>(weight + Hold::Column(i) * VEC), w);
#pragma unroll
    for (int j = 0; j < VEC; ++j) {
      const float xhat = v[j] * r;
      v[j] = (round_xhat ? RoundTo<T>(xhat) : xhat) * (w[j] + offset);
    }
    Store<VEC>(y + first + Hold::Column(i) * VEC, Packed<T>(v));
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
  RowSums<T, NV, VEC> dw;
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
        dw.sum[i][j] += d * (round_xhat ? RoundTo<T>(xhat) : xhat);
      }
    }
    dw.EndRow();
    if (dx != nullptr) {
      // On its way while the block waits for its sum.
      Pack<T, VEC> direct[ADD ? NV : 1];
      if constexpr (ADD) {
#pragma unroll
        for (int i = 0; i < NV; ++i) {
          if (in_x.Column(i) >= H) break;
          direct[i] = Load<VEC>(dadded + row * H + in_x.Column(i));
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
  dw.Finish();
#pragma unroll
  for (int i = 0; i < NV; ++i) {
    if (in_x.Column(i) >= H) break;
    float* out = partial + int64_t{blockIdx.x} * H + in_x.Column(i);
#pragma unroll
    for (int j = 0; j < VEC; j += 4) {
      const float* sum = dw.sum[i] + j;
      Store<4>(out + j, Pack<float, 4>{sum[0], sum[1], sum[2], sum[3]});
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
  if (shape.rows == 0) return 0;
  const RowsShape rows = Rows(shape);
  const bool add = residual != nullptr;
  // A null pointer is aligned.
  const bool aligned =
      IsAligned(x) && IsAligned(residual) && IsAligned(weight) && IsAligned(y) && IsAligned(added);
  DispatchTypes(rows, [&](auto t, auto w) {
    using T = typename decltype(t)::type;
    using W = typename decltype(w)::type;
    const auto run = [&](auto kernel, int threads, int64_t blocks, auto H) {
      kernel<<<GridOf(blocks), threads, 0, StreamOf(queue)>>>(
          static_cast<const T*>(x), static_cast<const T*>(residual), static_cast<const W*>(weight),
          shape.rows, H, static_cast<float>(eps), shape.offset, shape.round_xhat,
          static_cast<T*>(y), static_cast<T*>(added), rstd);
    };
    DispatchAdd(add, [&](auto is_add) {
      const bool held = DispatchRowHold(rows, aligned, [&](auto hold, int threads, int64_t blocks) {
        run(ForwardKernel<is_add(), T, W, decltype(hold)>, threads, blocks,
            static_cast<int>(shape.H));
      });
      if (held) return;
      run(LongRowForwardKernel<is_add(), T, W>, kMaxThreads,
          std::min(shape.rows, int64_t{4} * queue.num_sms), shape.H);
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
