#include "kernels/common/column_sum.cuh"
#include "kernels/common/pair_sum.cuh"
#include "kernels/common/row_pipeline.cuh"
#include "kernels/group_norm/group_norm.cuh"

// Groups of any size and alignment, in three launches each way: partial results of runs, results
// of groups, and what is made of them. x is read twice in forward and twice in backward.
namespace liger::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocksPerSm = 8;

// Of one part of a group: the mean of its elements, and the squares of what they differ by.
struct Moments {
  float mean, squares;
};

struct Part {
  int64_t group;
  int64_t begin, end;  // elements of the group
};

__device__ __forceinline__ Part PartOf(const GroupGeometry& g, int64_t index) {
  Part part;
  part.group = index / g.parts;
  part.begin = (index - part.group * g.parts) * kPartElements;
  part.end = part.begin + kPartElements < g.elements ? part.begin + kPartElements : g.elements;
  return part;
}

template <typename T, int VEC>
__global__ void __launch_bounds__(kThreads)
    MomentsKernel(const T* __restrict__ x, GroupGeometry g, Moments* __restrict__ out) {
  __shared__ float scratch[2][32];
  for (int64_t index = blockIdx.x; index < g.N * g.G * g.parts; index += gridDim.x) {
    const Part part = PartOf(g, index);
    const T* in = x + part.group * g.elements;
    const int64_t first = part.begin + int64_t{threadIdx.x} * VEC;
    const float n = static_cast<float>(part.end - part.begin);
    float sum = 0, squares = 0;
    for (int64_t i = first; i < part.end; i += kThreads * VEC) {
      float v[VEC];
      Unpack(Load<VEC>(in + i), v);
#pragma unroll
      for (int j = 0; j < VEC; ++j) sum += v[j];
    }
    const float mean = BlockSum(sum, scratch[0]) / n;
    // From the cache.
    for (int64_t i = first; i < part.end; i += kThreads * VEC) {
      float v[VEC];
      Unpack(Load<VEC>(in + i), v);
#pragma unroll
      for (int j = 0; j < VEC; ++j) squares += (v[j] - mean) * (v[j] - mean);
    }
    squares = BlockSum(squares, scratch[1]);
    if (threadIdx.x == 0) out[index] = {mean, squares};
  }
}

// A warp a group.
__global__ void __launch_bounds__(kThreads)
    MergeMomentsKernel(const Moments* __restrict__ moments, GroupGeometry g, float eps,
                       float* __restrict__ mean_out, float* __restrict__ rstd_out) {
  const int64_t group = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / 32;
  if (group >= g.N * g.G) return;
  const int64_t lane = threadIdx.x % 32;
  const Moments* own = moments + group * g.parts;
  const auto size = [&](int64_t part) {
    const int64_t rest = g.elements - part * kPartElements;
    return static_cast<double>(rest < kPartElements ? rest : kPartElements);
  };
  const double n = static_cast<double>(g.elements);
  double sum = 0, squares = 0;
  for (int64_t p = lane; p < g.parts; p += 32) sum += size(p) * double{own[p].mean};
  const double mean = WarpSum(sum) / n;
  for (int64_t p = lane; p < g.parts; p += 32) {
    const double off = double{own[p].mean} - mean;
    squares += double{own[p].squares} + size(p) * off * off;
  }
  squares = WarpSum(squares);
  if (lane != 0) return;
  mean_out[group] = static_cast<float>(mean);
  rstd_out[group] = static_cast<float>(1.0 / sqrt(squares / n + double{eps}));
}

// Calls f(i, channel) with the first of VEC elements of x, and their channel.
template <int VEC, typename F>
__device__ __forceinline__ void ForElements(const GroupGeometry& g, const Part& part, F&& f) {
  const int64_t channel0 = part.group % g.G * g.channels;
  const int64_t base = part.group * g.elements;
  for (int64_t e = part.begin + int64_t{threadIdx.x} * VEC; e < part.end; e += kThreads * VEC) {
    // A division of 32 bits takes a quarter of the time.
    const int64_t channel =
        g.elements <= UINT32_MAX ? static_cast<uint32_t>(e) / static_cast<uint32_t>(g.L) : e / g.L;
    f(base + e, channel0 + channel);
  }
}

template <typename T, typename W, int VEC>
__global__ void __launch_bounds__(kThreads)
    ApplyKernel(const T* __restrict__ x, const W* __restrict__ weight, const W* __restrict__ bias,
                GroupGeometry g, const float* __restrict__ means, const float* __restrict__ rstd,
                T* __restrict__ y) {
  for (int64_t index = blockIdx.x; index < g.N * g.G * g.parts; index += gridDim.x) {
    const Part part = PartOf(g, index);
    const float mean = means[part.group], r = rstd[part.group];
    ForElements<VEC>(g, part, [&](int64_t i, int64_t channel) {
      const float w = ToFloat(weight[channel]);
      const float b = bias == nullptr ? 0.0f : ToFloat(bias[channel]);
      float v[VEC];
      Unpack(Load<VEC>(x + i), v);
#pragma unroll
      for (int j = 0; j < VEC; ++j) v[j] = (v[j] - mean) * r * w + b;
      Store<VEC>(y + i, Packed<T>(v));
    });
  }
}

// Sums of dy and of dy xhat over each piece of each channel, by a team of lanes each.
template <typename T, int VEC>
__global__ void __launch_bounds__(kThreads)
    UnitSumsKernel(const T* __restrict__ dy, const T* __restrict__ x, GroupGeometry g, int team,
                   const float* __restrict__ means, const float* __restrict__ rstd,
                   float* __restrict__ unit_dw, float* __restrict__ unit_db) {
  const int64_t units = g.N * g.C * g.pieces, teams = kThreads / team;
  const int lane = static_cast<int>(threadIdx.x) % team;
  for (int64_t base = blockIdx.x * teams; base < units; base += gridDim.x * teams) {
    const int64_t unit = base + threadIdx.x / team;
    const int64_t row = unit / g.pieces, piece = unit - row * g.pieces;
    const int64_t n = row / g.C, channel = row - n * g.C;
    Pair sums = {0, 0};
    if (unit < units) {
      const int64_t group = n * g.G + channel / g.channels;
      const float mean = means[group], r = rstd[group];
      const int64_t begin = piece * g.piece_length;
      const int64_t end = begin + g.piece_length < g.L ? begin + g.piece_length : g.L;
      for (int64_t l = begin + lane * VEC; l < end; l += team * VEC) {
        float v[VEC], d[VEC];
        Unpack(Load<VEC>(x + row * g.L + l), v);
        Unpack(Load<VEC>(dy + row * g.L + l), d);
#pragma unroll
        for (int j = 0; j < VEC; ++j) sums += Pair{d[j], d[j] * ((v[j] - mean) * r)};
      }
    }
    sums = {TeamSum(sums.a, team), TeamSum(sums.b, team)};
    if (unit >= units || lane != 0) continue;
    const int64_t index = UnitIndex(g, n, channel, piece);
    unit_db[index] = sums.a;
    unit_dw[index] = sums.b;
  }
}

// Means over a group of g = dy w and of g xhat, a warp a group.
template <typename W>
__global__ void __launch_bounds__(kThreads)
    GroupMeansKernel(const W* __restrict__ weight, GroupGeometry g,
                     const float* __restrict__ unit_dw, const float* __restrict__ unit_db,
                     Pair* __restrict__ out) {
  const int64_t group = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / 32;
  if (group >= g.N * g.G) return;
  const int64_t lane = threadIdx.x % 32, n = group / g.G;
  const int64_t channel0 = (group - n * g.G) * g.channels;
  double sum_g = 0, sum_gx = 0;
  for (int64_t piece = 0; piece < g.pieces; ++piece) {
    for (int64_t c = lane; c < g.channels; c += 32) {
      const int64_t index = UnitIndex(g, n, channel0 + c, piece);
      const double w = double{ToFloat(weight[channel0 + c])};
      sum_g += w * double{unit_db[index]};
      sum_gx += w * double{unit_dw[index]};
    }
  }
  sum_g = WarpSum(sum_g);
  sum_gx = WarpSum(sum_gx);
  const double elements = static_cast<double>(g.elements);
  if (lane == 0) {
    out[group] = {static_cast<float>(sum_g / elements), static_cast<float>(sum_gx / elements)};
  }
}

template <typename T, typename W, int VEC>
__global__ void __launch_bounds__(kThreads)
    InputGradKernel(const T* __restrict__ dy, const T* __restrict__ x, const W* __restrict__ weight,
                    GroupGeometry g, const float* __restrict__ means,
                    const float* __restrict__ rstd, const Pair* __restrict__ group_means,
                    T* __restrict__ dx) {
  for (int64_t index = blockIdx.x; index < g.N * g.G * g.parts; index += gridDim.x) {
    const Part part = PartOf(g, index);
    const float mean = means[part.group], r = rstd[part.group];
    const Pair of_group = group_means[part.group];
    ForElements<VEC>(g, part, [&](int64_t i, int64_t channel) {
      const float w = ToFloat(weight[channel]);
      float v[VEC], d[VEC];
      Unpack(Load<VEC>(x + i), v);
      Unpack(Load<VEC>(dy + i), d);
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        const float xhat = (v[j] - mean) * r;
        v[j] = r * (__fmul_rn(d[j], w) - of_group.a - xhat * of_group.b);
      }
      Store<VEC>(dx + i, Packed<T>(v));
    });
  }
}

unsigned BlockCount(const Queue& queue, int64_t work) {
  return static_cast<unsigned>(std::min(work, int64_t{kBlocksPerSm} * queue.num_sms));
}

// Blocks of a kernel that has a warp for each group.
unsigned WarpBlocks(const GroupGeometry& g) {
  constexpr int64_t kWarps = kThreads / 32;
  return static_cast<unsigned>((g.N * g.G + kWarps - 1) / kWarps);
}

// Calls f(T, W, VEC) with the widest loads that stay within a channel.
template <typename F>
void Dispatch(const GroupNormShape& shape, bool aligned, F&& f) {
  const RowsShape types{
      .dtype = shape.dtype, .weight_dtype = shape.weight_dtype, .rows = 0, .H = 0};
  DispatchTypes(types, [&](auto t, auto w) {
    using T = typename decltype(t)::type;
    if (aligned && shape.L % kWide<T> == 0) {
      f(t, w, std::integral_constant<int, kWide<T>>{});
    } else {
      f(t, w, std::integral_constant<int, 1>{});
    }
  });
}

Error SplitBackward(const Queue& queue, const GroupNormShape& shape, const void* dy, const void* x,
                    const void* weight, const float* mean, const float* rstd, void* dx,
                    float* unit_dw, float* unit_db, float* scratch) {
  const GroupGeometry g = GeometryOf(shape);
  const bool aligned = IsAligned(dy) && IsAligned(x) && IsAligned(dx);
  Dispatch(shape, aligned, [&](auto t, auto w, auto vec) {
    using T = typename decltype(t)::type;
    using W = typename decltype(w)::type;
    const int team = TeamSize(g.piece_length / vec());
    const int64_t teams = kThreads / team, units = g.N * g.C * g.pieces;
    UnitSumsKernel<T, vec()>
        <<<BlockCount(queue, (units + teams - 1) / teams), kThreads, 0, StreamOf(queue)>>>(
            static_cast<const T*>(dy), static_cast<const T*>(x), g, team, mean, rstd, unit_dw,
            unit_db);
    if (dx == nullptr) return;
    Pair* group_means = reinterpret_cast<Pair*>(scratch);
    GroupMeansKernel<W><<<WarpBlocks(g), kThreads, 0, StreamOf(queue)>>>(
        static_cast<const W*>(weight), g, unit_dw, unit_db, group_means);
    InputGradKernel<T, W, vec()>
        <<<BlockCount(queue, g.N * g.G * g.parts), kThreads, 0, StreamOf(queue)>>>(
            static_cast<const T*>(dy), static_cast<const T*>(x), static_cast<const W*>(weight), g,
            mean, rstd, group_means, static_cast<T*>(dx));
  });
  return LaunchError();
}

}  // namespace

int64_t GroupNormForwardScratch(const GroupNormShape& shape) {
  const GroupGeometry g = GeometryOf(shape);
  return 2 * g.N * g.G * g.parts;
}

int64_t GroupNormBackwardScratch(const GroupNormShape& shape) {
  const GroupGeometry g = GeometryOf(shape);
  return 2 * g.N * g.G + 2 * g.N * g.pieces * g.C;
}

Error GroupNormForward(const Queue& queue, const GroupNormShape& shape, const void* x,
                       const void* weight, const void* bias, double eps, float* scratch, void* y,
                       float* mean, float* rstd) {
  const GroupGeometry g = GeometryOf(shape);
  if (g.N == 0) return 0;
  const float eps_f = static_cast<float>(eps);
  Error error = 0;
  if (HeldForward(queue, shape, x, weight, bias, eps_f, y, mean, rstd, &error)) return error;
  Dispatch(shape, IsAligned(x) && IsAligned(y), [&](auto t, auto w, auto vec) {
    using T = typename decltype(t)::type;
    using W = typename decltype(w)::type;
    const unsigned blocks = BlockCount(queue, g.N * g.G * g.parts);
    Moments* moments = reinterpret_cast<Moments*>(scratch);
    MomentsKernel<T, vec()>
        <<<blocks, kThreads, 0, StreamOf(queue)>>>(static_cast<const T*>(x), g, moments);
    MergeMomentsKernel<<<WarpBlocks(g), kThreads, 0, StreamOf(queue)>>>(moments, g, eps_f, mean,
                                                                        rstd);
    ApplyKernel<T, W, vec()><<<blocks, kThreads, 0, StreamOf(queue)>>>(
        static_cast<const T*>(x), static_cast<const W*>(weight), static_cast<const W*>(bias), g,
        mean, rstd, static_cast<T*>(y));
  });
  return LaunchError();
}

Error GroupNormBackward(const Queue& queue, const GroupNormShape& shape, const void* dy,
                        const void* x, const void* weight, const float* mean, const float* rstd,
                        float* scratch, const GroupNormGrads& out) {
  const GroupGeometry g = GeometryOf(shape);
  const int64_t rows = g.N * g.pieces;
  float *unit_dw = scratch + 2 * g.N * g.G, *unit_db = unit_dw + rows * g.C;
  Error error = 0;
  if (rows > 0 && !HeldBackward(queue, shape, dy, x, weight, mean, rstd, out.dx,
                                      out.dweight == nullptr ? nullptr : unit_dw,
                                      out.dbias == nullptr ? nullptr : unit_db, &error)) {
    error =
        SplitBackward(queue, shape, dy, x, weight, mean, rstd, out.dx, unit_dw, unit_db, scratch);
  }
  if (error != 0) return error;
  const auto sum = [&](const float* units, void* grad) {
    if (grad == nullptr) return;
    DispatchDtype(shape.weight_dtype, [&](auto w) {
      using W = typename decltype(w)::type;
      // Without samples the sums are zero.
      ColumnSum(queue, units, rows, g.C, static_cast<W*>(grad));
    });
  };
  sum(unit_dw, out.dweight);
  sum(unit_db, out.dbias);
  return LaunchError();
}

}  // namespace liger::kernels::cuda
