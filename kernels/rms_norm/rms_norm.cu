#include <cuda_pipeline.h>

#include <algorithm>

#include "kernels/common/column_sum.cuh"
#include "kernels/common/device.cuh"
#include "kernels/rms_norm/rms_norm_launch.h"

namespace liger::kernels::cuda {
namespace {

// Blocks walk over rows. While a row is reduced, the next kStages - 1 are on their way into
// shared memory: each thread fetches what it will use itself, so that nobody waits for others.
constexpr int kStages = 3;
constexpr int kMaxThreads = 512;
constexpr int kMaxPacks = 4;

// Packs of a row that a thread takes, and threads. Rows that are not whole packs, not aligned
// or longer than that take the kernels for long rows.
struct RowPlan {
  int packs = 0, threads = 0;
  bool fits() const { return packs != 0; }
};

RowPlan PlanRow(const RmsNormShape& shape, bool aligned) {
  const int64_t wide = shape.dtype == Dtype::kFloat ? 4 : 8;
  const int64_t packs = shape.H / wide;
  if (!aligned || shape.H % wide != 0 || packs > kMaxPacks * kMaxThreads) return {};
  RowPlan plan{.packs = packs <= 256 ? 1 : packs <= 2 * kMaxThreads ? 2 : kMaxPacks};
  const int64_t threads = (packs + plan.packs - 1) / plan.packs;
  plan.threads = static_cast<int>((threads + 31) / 32 * 32);
  return plan;
}

// One operand's stages of one thread: pack i of stage s.
template <typename T, int NV>
class Stages {
 public:
  static constexpr int VEC = kWide<T>;
  using P = Pack<T, VEC>;

  __device__ Stages(void* shared, int H)
      : own_(static_cast<uint4*>(shared) + threadIdx.x), row_(H / VEC), H_(H) {}

  __device__ __forceinline__ void Fetch(const T* row, int stage) {
#pragma unroll
    for (int i = 0; i < NV; ++i) {
      const int h = Column(i);
      if (h >= H_) break;
      __pipeline_memcpy_async(own_ + stage * row_ + i * blockDim.x, row + h, 16);
    }
  }
  __device__ __forceinline__ P At(int i, int stage) const {
    return FromRaw<P>(own_[stage * row_ + i * blockDim.x]);
  }
  __device__ __forceinline__ static int Column(int i) {
    return (i * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)) * VEC;
  }

 private:
  uint4* own_;
  int row_, H_;
};

template <typename T, typename W, int NV>
__global__ void __launch_bounds__(NV == 1 ? 256 : kMaxThreads)
    ForwardKernel(const T* __restrict__ x, const W* __restrict__ weight, int64_t rows, int H,
                  float eps, float offset, bool round_xhat, T* __restrict__ y,
                  float* __restrict__ rstd) {
  constexpr int VEC = kWide<T>;
  extern __shared__ uint4 shared[];
  // A stage each: a block may be a row ahead of its slowest warp.
  __shared__ float scratch[kStages][32];
  Stages<T, NV> in(shared, H);
  Pack<W, VEC> w[NV];
#pragma unroll
  for (int i = 0; i < NV; ++i) {
    if (in.Column(i) < H) w[i] = Load<VEC>(weight + in.Column(i));
  }
  const int64_t step = gridDim.x;
  const auto fetch = [&](int64_t row, int stage) {
    if (row < rows) in.Fetch(x + row * H, stage);
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

// dw is summed in registers and goes to this block's row of `partial` at the end.
template <typename T, typename W, int NV>
__global__ void __launch_bounds__(NV == 1 ? 256 : kMaxThreads, NV == 1 ? 4 : NV == 2 ? 2 : 1)
    BackwardKernel(const T* __restrict__ dy, const T* __restrict__ x, const W* __restrict__ weight,
                   const float* __restrict__ rstd, int64_t rows, int H, float offset,
                   bool round_xhat, T* __restrict__ dx, float* __restrict__ partial) {
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
          out.v[j] = FromFloat<T>(r * (g - xhat * mean));
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

// Calls f with the number of packs as a constant.
template <typename F>
void DispatchPacks(const RowPlan& plan, F&& f) {
  if (plan.packs == 1) return f(std::integral_constant<int, 1>{});
  if (plan.packs == 2) return f(std::integral_constant<int, 2>{});
  f(std::integral_constant<int, kMaxPacks>{});
}

// Of shared memory, for `operands` rows in each stage.
size_t StageBytes(const RmsNormShape& shape, int operands) {
  const size_t element = shape.dtype == Dtype::kFloat ? 4 : 2;
  return static_cast<size_t>(kStages * operands) * static_cast<size_t>(shape.H) * element;
}

// How many blocks of the kernel a multiprocessor takes; 0: it has less shared memory. The kernel
// may then use all that there is: a limit for each call would be a race between threads.
template <auto kKernel>
int BlocksPerSm(int threads, size_t shared) {
  struct Known {
    int device = -1, threads = 0;
    size_t shared = 0;
    int blocks = 0;
  };
  thread_local Known known;
  int device = 0, most = 0, blocks = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return 0;
  if (known.device == device && known.threads == threads && known.shared == shared) {
    return known.blocks;
  }
  cudaFuncAttributes attributes;
  if (cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) !=
          cudaSuccess ||
      cudaFuncGetAttributes(&attributes, kKernel) != cudaSuccess ||
      cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           most - static_cast<int>(attributes.sharedSizeBytes)) != cudaSuccess ||
      cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kKernel, threads, shared) !=
          cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  known = {device, threads, shared, blocks};
  return blocks;
}

}  // namespace

Error RmsNormForward(const Queue& queue, const RmsNormShape& shape, const void* x,
                     const void* weight, double eps, void* y, float* rstd) {
  if (shape.rows == 0 || shape.H == 0) return 0;
  const RowPlan plan = PlanRow(shape, IsAligned(x) && IsAligned(weight) && IsAligned(y));
  DispatchTypes(shape, [&](auto t, auto w) {
    using T = typename decltype(t)::type;
    using W = typename decltype(w)::type;
    const auto run = [&](auto kernel, int per_sm, int threads, size_t shared, auto H) {
      const int64_t blocks = std::min(shape.rows, int64_t{per_sm} * queue.num_sms);
      kernel<<<static_cast<unsigned>(blocks), threads, shared, StreamOf(queue)>>>(
          static_cast<const T*>(x), static_cast<const W*>(weight), shape.rows, H,
          static_cast<float>(eps), shape.offset, shape.round_xhat, static_cast<T*>(y), rstd);
    };
    bool done = false;
    if (plan.fits()) {
      DispatchPacks(plan, [&](auto packs) {
        constexpr auto kKernel = &ForwardKernel<T, W, packs()>;
        const size_t shared = StageBytes(shape, 1);
        const int per_sm = BlocksPerSm<kKernel>(plan.threads, shared);
        if (per_sm == 0) return;
        run(kKernel, per_sm, plan.threads, shared, static_cast<int>(shape.H));
        done = true;
      });
    }
    if (!done) run(LongRowForwardKernel<T, W>, 4, kMaxThreads, 0, shape.H);
  });
  return LaunchError();
}

int64_t RmsNormScratchRows(const Queue& queue, const RmsNormShape& shape) {
  const RowPlan plan = PlanRow(shape, true);
  const int64_t per_sm = plan.fits() ? std::max(1, 1024 / plan.threads) : 2;
  return std::min<int64_t>(shape.rows, per_sm * queue.num_sms);
}

Error RmsNormBackward(const Queue& queue, const RmsNormShape& shape, const void* dy, const void* x,
                      const void* weight, const float* rstd, void* dx, void* dweight,
                      float* scratch) {
  if (shape.H == 0) return 0;
  const int64_t blocks = RmsNormScratchRows(queue, shape);
  const bool aligned = IsAligned(dy) && IsAligned(x) && IsAligned(weight) && IsAligned(dx);
  const RowPlan plan = PlanRow(shape, aligned);
  float* partial = dweight == nullptr ? nullptr : scratch;
  DispatchTypes(shape, [&](auto t, auto w) {
    using T = typename decltype(t)::type;
    using W = typename decltype(w)::type;
    const auto run = [&](auto kernel, int threads, size_t shared, auto H) {
      kernel<<<static_cast<unsigned>(blocks), threads, shared, StreamOf(queue)>>>(
          static_cast<const T*>(dy), static_cast<const T*>(x), static_cast<const W*>(weight), rstd,
          shape.rows, H, shape.offset, shape.round_xhat, static_cast<T*>(dx), partial);
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
    if (dweight != nullptr) {
      ColumnSum(queue, scratch, blocks, shape.H, static_cast<W*>(dweight));
    }
  });
  return LaunchError();
}

}  // namespace liger::kernels::cuda
