#include <algorithm>

#include "kernels/common/column_sum.cuh"
#include "kernels/common/pair_sum.cuh"
#include "kernels/common/row_held.cuh"
#include "kernels/common/row_pipeline.cuh"
#include "kernels/layer_norm/layer_norm_launch.h"

namespace liger::kernels::cuda {
namespace {

template <typename T, typename W, typename Hold>
__global__ void __launch_bounds__(Hold::kMostThreads, Hold::kMinBlocks)
    ForwardKernel(const T* __restrict__ x, const W* __restrict__ weight, const W* __restrict__ bias,
                  int64_t rows, int H, float eps, T* __restrict__ y, float* __restrict__ mean_out,
                  float* __restrict__ rstd_out) {
  constexpr int VEC = kWide<T>, NV = Hold::kPacks;
  __shared__ float scratch[2][32];
  const int64_t row = Hold::Row();
  if (row >= rows) return;
  const int packs = H / VEC;
  const int64_t first = row * H;
  Pack<T, VEC> held[NV];
#pragma unroll
  for (int i = 0; i < NV; ++i) {
    if (Hold::Column(i) >= packs) break;
    held[i] = Load<VEC>(x + first + Hold::Column(i) * VEC);
  }
  float sum = 0;
#pragma unroll
  for (int i = 0; i < NV; ++i) {
    if (Hold::Column(i) >= packs) break;
    float v[VEC];
    Unpack(held[i], v);
#pragma unroll
    for (int j = 0; j < VEC; ++j) sum += v[j];
  }
  const float mean = Hold::Sum(sum, scratch[0]) / static_cast<float>(H);
  float squares = 0;
#pragma unroll
  for (int i = 0; i < NV; ++i) {
    if (Hold::Column(i) >= packs) break;
    float v[VEC];
    Unpack(held[i], v);
#pragma unroll
    for (int j = 0; j < VEC; ++j) squares += (v[j] - mean) * (v[j] - mean);
  }
  squares = Hold::Sum(squares, scratch[1]);
  const float r = 1.0f / sqrtf(squares / static_cast<float>(H) + eps);
  if (Hold::Rank() == 0) {
    mean_out[row] = mean;
    rstd_out[row] = r;
  }
#pragma unroll
  for (int i = 0; i < NV; ++i) {
    if (Hold::Column(i) >= packs) break;
    float v[VEC], w[VEC], b[VEC] = {};
    Unpack(held[i], v);
    Unpack(Load<VEC>(weight + Hold::Column(i) * VEC), w);
    if (bias != nullptr) Unpack(Load<VEC>(bias + Hold::Column(i) * VEC), b);
#pragma unroll
    for (int j = 0; j < VEC; ++j) v[j] = (v[j] - mean) * r * w[j] + b[j];
    Store<VEC>(y + first + Hold::Column(i) * VEC, Packed<T>(v));
  }
}

// To this block's row of `partial`, unless it is null.
template <int NV, int VEC, typename Column>
__device__ __forceinline__ void StorePartial(const float (&sums)[NV][VEC], int H, Column column,
                                             float* partial) {
  if (partial == nullptr) return;
#pragma unroll
  for (int i = 0; i < NV; ++i) {
    if (column(i) >= H) break;
    float* out = partial + int64_t{blockIdx.x} * H + column(i);
#pragma unroll
    for (int j = 0; j < VEC; j += 4) {
      Store<4>(out + j, Pack<float, 4>{sums[i][j], sums[i][j + 1], sums[i][j + 2], sums[i][j + 3]});
    }
  }
}

// dw and db are summed in registers and go to this block's rows of the partial sums at the end.
template <typename T, typename W, int NV>
__global__ void __launch_bounds__(NV == 1 ? 256 : kMaxThreads, NV == 1 ? 3 : 1)
    BackwardKernel(const T* __restrict__ dy, const T* __restrict__ x, const W* __restrict__ weight,
                   const float* __restrict__ means, const float* __restrict__ rstd, int64_t rows,
                   int H, T* __restrict__ dx, float* __restrict__ partial_dw,
                   float* __restrict__ partial_db) {
  constexpr int VEC = kWide<T>;
  extern __shared__ uint4 shared[];
  __shared__ Pair scratch[kStages][32];
  Stages<T, NV> in_dy(shared, H), in_x(shared + kStages * (H / VEC), H);
  Pack<W, VEC> w[NV];
#pragma unroll
  for (int i = 0; i < NV; ++i) {
    if (in_x.Column(i) < H) w[i] = Load<VEC>(weight + in_x.Column(i));
  }
  RowSums<T, NV, VEC> dw, db;
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
  float next_mean = 0, next_r = 0;
  if (blockIdx.x < rows) {
    next_mean = means[blockIdx.x];
    next_r = rstd[blockIdx.x];
  }
  int stage = 0, ahead = kStages - 1;
  for (int64_t row = blockIdx.x; row < rows; row += step) {
    fetch(row + (kStages - 1) * step, ahead);
    const float mean = next_mean, r = next_r;
    if (row + step < rows) {
      next_mean = means[row + step];
      next_r = rstd[row + step];
    }
    __pipeline_wait_prior(kStages - 1);
    Pair sums = {0, 0};  // of g and g xhat
#pragma unroll
    for (int i = 0; i < NV; ++i) {
      if (in_x.Column(i) >= H) break;
      const Pack<T, VEC> px = in_x.At(i, stage), pdy = in_dy.At(i, stage);
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        const float xhat = (ToFloat(px.v[j]) - mean) * r, d = ToFloat(pdy.v[j]);
        const float g = __fmul_rn(d, ToFloat(w[i].v[j]));
        sums += Pair{g, g * xhat};
        dw.sum[i][j] += d * xhat;
        db.sum[i][j] += d;
      }
    }
    dw.EndRow();
    db.EndRow();
    if (dx != nullptr) {
      sums = PairSum(sums, scratch[stage]);
      const float mean_g = sums.a / static_cast<float>(H);
      const float mean_gx = sums.b / static_cast<float>(H);
#pragma unroll
      for (int i = 0; i < NV; ++i) {
        if (in_x.Column(i) >= H) break;
        const Pack<T, VEC> px = in_x.At(i, stage), pdy = in_dy.At(i, stage);
        float out[VEC];
#pragma unroll
        for (int j = 0; j < VEC; ++j) {
          const float xhat = (ToFloat(px.v[j]) - mean) * r;
          // Rounded as in the sums, so that a constant g cancels exactly.
          const float g = __fmul_rn(ToFloat(pdy.v[j]), ToFloat(w[i].v[j]));
          out[j] = r * (g - mean_g - xhat * mean_gx);
        }
        Store<VEC>(dx + row * H + in_x.Column(i), Packed<T>(out));
      }
    }
    stage = stage + 1 == kStages ? 0 : stage + 1;
    ahead = ahead + 1 == kStages ? 0 : ahead + 1;
  }
  const auto column = [&](int i) { return in_x.Column(i); };
  dw.Finish();
  db.Finish();
  StorePartial(dw.sum, H, column, partial_dw);
  StorePartial(db.sum, H, column, partial_db);
}

// Rows that are not whole packs, not aligned or too long for the chip.
template <typename T, typename W>
__global__ void LongRowForwardKernel(const T* __restrict__ x, const W* __restrict__ weight,
                                     const W* __restrict__ bias, int64_t rows, int64_t H, float eps,
                                     T* __restrict__ y, float* __restrict__ mean_out,
                                     float* __restrict__ rstd_out) {
  __shared__ float scratch[2][32];
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const T* in = x + row * H;
    float sum = 0, squares = 0;
    for (int64_t h = threadIdx.x; h < H; h += blockDim.x) sum += ToFloat(in[h]);
    const float mean = BlockSum(sum, scratch[0]) / static_cast<float>(H);
    for (int64_t h = threadIdx.x; h < H; h += blockDim.x) {
      const float centred = ToFloat(in[h]) - mean;
      squares += centred * centred;
    }
    squares = BlockSum(squares, scratch[1]);
    const float r = 1.0f / sqrtf(squares / static_cast<float>(H) + eps);
    if (threadIdx.x == 0) {
      mean_out[row] = mean;
      rstd_out[row] = r;
    }
    for (int64_t h = threadIdx.x; h < H; h += blockDim.x) {
      const float b = bias == nullptr ? 0.0f : ToFloat(bias[h]);
      y[row * H + h] = FromFloat<T>((ToFloat(in[h]) - mean) * r * ToFloat(weight[h]) + b);
    }
  }
}

template <typename T, typename W>
__global__ void LongRowBackwardKernel(const T* __restrict__ dy, const T* __restrict__ x,
                                      const W* __restrict__ weight, const float* __restrict__ means,
                                      const float* __restrict__ rstd, int64_t rows, int64_t H,
                                      T* __restrict__ dx, float* __restrict__ partial_dw,
                                      float* __restrict__ partial_db) {
  __shared__ Pair scratch[2][32];
  float* dw = partial_dw == nullptr ? nullptr : partial_dw + int64_t{blockIdx.x} * H;
  float* db = partial_db == nullptr ? nullptr : partial_db + int64_t{blockIdx.x} * H;
  for (int64_t h = threadIdx.x; h < H; h += blockDim.x) {
    if (dw != nullptr) dw[h] = 0;
    if (db != nullptr) db[h] = 0;
  }
  int parity = 0;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x, parity ^= 1) {
    const float mean = means[row], r = rstd[row];
    Pair sums = {0, 0};
    for (int64_t h = threadIdx.x; h < H; h += blockDim.x) {
      const float xhat = (ToFloat(x[row * H + h]) - mean) * r, d = ToFloat(dy[row * H + h]);
      const float g = __fmul_rn(d, ToFloat(weight[h]));
      sums += Pair{g, g * xhat};
      if (dw != nullptr) dw[h] += d * xhat;
      if (db != nullptr) db[h] += d;
    }
    if (dx == nullptr) continue;
    sums = PairSum(sums, scratch[parity]);
    const float mean_g = sums.a / static_cast<float>(H), mean_gx = sums.b / static_cast<float>(H);
    for (int64_t h = threadIdx.x; h < H; h += blockDim.x) {
      const float xhat = (ToFloat(x[row * H + h]) - mean) * r;
      const float g = __fmul_rn(ToFloat(dy[row * H + h]), ToFloat(weight[h]));
      dx[row * H + h] = FromFloat<T>(r * (g - mean_g - xhat * mean_gx));
    }
  }
}

}  // namespace

Error LayerNormForward(const Queue& queue, const RowsShape& shape, const void* x,
                       const void* weight, const void* bias, double eps, void* y, float* mean,
                       float* rstd) {
  if (shape.rows == 0) return 0;
  // A null pointer is aligned.
  const bool aligned = IsAligned(x) && IsAligned(weight) && IsAligned(bias) && IsAligned(y);
  DispatchTypes(shape, [&](auto t, auto w) {
    using T = typename decltype(t)::type;
    using W = typename decltype(w)::type;
    const auto run = [&](auto kernel, int threads, int64_t blocks, auto H) {
      kernel<<<GridOf(blocks), threads, 0, StreamOf(queue)>>>(
          static_cast<const T*>(x), static_cast<const W*>(weight), static_cast<const W*>(bias),
          shape.rows, H, static_cast<float>(eps), static_cast<T*>(y), mean, rstd);
    };
    const bool held = DispatchRowHold(shape, aligned, [&](auto hold, int threads, int64_t blocks) {
      run(ForwardKernel<T, W, decltype(hold)>, threads, blocks, static_cast<int>(shape.H));
    });
    if (held) return;
    run(LongRowForwardKernel<T, W>, kMaxThreads, std::min(shape.rows, int64_t{4} * queue.num_sms),
        shape.H);
  });
  return LaunchError();
}

int64_t LayerNormScratchRows(const Queue& queue, const RowsShape& shape) {
  // As many blocks as run at once.
  const RowPlan plan = PlanRow(shape, true);
  int per_sm = 0;
  if (plan.fits()) {
    DispatchTypes(shape, [&](auto t, auto w) {
      DispatchPacks(plan, [&](auto packs) {
        using T = typename decltype(t)::type;
        using W = typename decltype(w)::type;
        per_sm = BlocksPerSm<&BackwardKernel<T, W, packs()>>(plan.threads, StageBytes(shape, 2));
      });
    });
  }
  return std::min<int64_t>(shape.rows, int64_t{per_sm == 0 ? 2 : per_sm} * queue.num_sms);
}

Error LayerNormBackward(const Queue& queue, const RowsShape& shape, const void* dy, const void* x,
                        const void* weight, const float* mean, const float* rstd,
                        const LayerNormGrads& out) {
  const int64_t blocks = LayerNormScratchRows(queue, shape);
  const bool aligned = IsAligned(dy) && IsAligned(x) && IsAligned(weight) && IsAligned(out.dx);
  const RowPlan plan = PlanRow(shape, aligned);
  float* dw = out.dweight == nullptr ? nullptr : out.dweight_scratch;
  float* db = out.dbias == nullptr ? nullptr : out.dbias_scratch;
  DispatchTypes(shape, [&](auto t, auto w) {
    using T = typename decltype(t)::type;
    using W = typename decltype(w)::type;
    const auto run = [&](auto kernel, int threads, size_t shared, auto H) {
      kernel<<<static_cast<unsigned>(blocks), threads, shared, StreamOf(queue)>>>(
          static_cast<const T*>(dy), static_cast<const T*>(x), static_cast<const W*>(weight), mean,
          rstd, shape.rows, H, static_cast<T*>(out.dx), dw, db);
    };
    bool done = blocks == 0;
    if (!done && plan.fits()) {
      DispatchPacks(plan, [&](auto packs) {
        constexpr auto kKernel = &BackwardKernel<T, W, packs()>;
        const size_t shared = StageBytes(shape, 2);
        if (BlocksPerSm<kKernel>(plan.threads, shared) == 0) return;
        run(kKernel, plan.threads, shared, static_cast<int>(shape.H));
        done = true;
      });
    }
    if (!done) run(LongRowBackwardKernel<T, W>, kMaxThreads, 0, shape.H);
    // Without rows the sums are zero.
    if (out.dweight != nullptr) {
      ColumnSum(queue, dw, blocks, shape.H, static_cast<W*>(out.dweight));
    }
    if (out.dbias != nullptr) ColumnSum(queue, db, blocks, shape.H, static_cast<W*>(out.dbias));
  });
  return LaunchError();
}

}  // namespace liger::kernels::cuda
