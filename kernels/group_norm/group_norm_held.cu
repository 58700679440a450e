#include <cooperative_groups.h>

#include "kernels/common/cluster.cuh"
#include "kernels/common/pair_sum.cuh"
#include "kernels/common/row_pipeline.cuh"
#include "kernels/group_norm/group_norm.cuh"

// One group is held in shared memory, by one block or by the blocks of a cluster, from its only
// read to its only write. Every thread fetches what it will use itself. Several blocks share an
// SM, so that some fetch while others compute.
namespace liger::kernels::cuda {
namespace {

constexpr int kHeldThreads = 512;
constexpr int kLoneThreads = 256;  // forward, of a block that has a group to itself

// A block's share of a group: units [first, last), each in a slot of piece_packs packs.
struct Share {
  int64_t group, n, channel0;
  unsigned rank;
  int first, last;
};

struct HeldGeometry {
  GroupGeometry g;
  int units = 0, pieces = 0, piece_packs = 0, channel_packs = 0;
  int blocks = 0, team = 0, slots = 0;  // slots: of each block
};

template <bool kCluster>
__device__ __forceinline__ Share ShareOf(const HeldGeometry& h) {
  Share s;
  s.group = kCluster ? blockIdx.x / h.blocks : blockIdx.x;
  s.rank = kCluster ? blockIdx.x % h.blocks : 0;
  s.n = s.group / h.g.G;
  s.channel0 = (s.group - s.n * h.g.G) * h.g.channels;
  s.first = static_cast<int>(s.rank) * h.slots;
  s.last = min(s.first + h.slots, h.units);
  return s;
}

struct Unit {
  int channel, piece;  // of the group
  int packs;           // 0: this team has none in this round
  int slot;            // first pack in shared memory
  int offset;          // first pack in the group
};

__device__ __forceinline__ Unit UnitOf(const HeldGeometry& h, const Share& s, int u) {
  Unit unit{};
  if (u >= s.last) return unit;
  unit.channel = u / h.pieces;
  unit.piece = u - unit.channel * h.pieces;
  const int begin = unit.piece * h.piece_packs;
  unit.packs = min(h.piece_packs, h.channel_packs - begin);
  unit.slot = (u - s.first) * h.piece_packs;
  unit.offset = unit.channel * h.channel_packs + begin;
  return unit;
}

// Calls f(unit) with the units of this thread's team. Threads of a warp make equally many calls.
template <typename F>
__device__ __forceinline__ void ForUnits(const HeldGeometry& h, const Share& s, F&& f) {
  const int teams = static_cast<int>(blockDim.x) / h.team;
  for (int u = s.first; u < s.last; u += teams) {
    f(UnitOf(h, s, u + static_cast<int>(threadIdx.x) / h.team));
  }
}

// Calls f(pack) with the packs of a unit that this thread takes.
template <typename F>
__device__ __forceinline__ void ForPacks(const HeldGeometry& h, const Unit& unit, F&& f) {
  for (int i = static_cast<int>(threadIdx.x) % h.team; i < unit.packs; i += h.team) f(i);
}

// Sums of blocks -> that of the cluster, in the order of their ranks: equal in all.
template <bool kCluster>
__device__ __forceinline__ Pair ClusterSum(Pair v, int blocks, Pair* slot) {
  if constexpr (kCluster) {
#if __CUDA_ARCH__ >= 900
    const auto cluster = cooperative_groups::this_cluster();
    if (threadIdx.x == 0) *slot = v;
    cluster.sync();
    v = {0, 0};
    for (int r = 0; r < blocks; ++r) v += *cluster.map_shared_rank(slot, r);
#else
    __trap();
#endif
  }
  return v;
}

// Nobody leaves, or its shared memory with it, before all have read.
template <bool kCluster>
__device__ __forceinline__ void LeaveCluster() {
#if __CUDA_ARCH__ >= 900
  if constexpr (kCluster) cooperative_groups::this_cluster().sync();
#endif
}

template <typename T, typename W, bool kCluster>
__global__ void __launch_bounds__(kHeldThreads)
    ForwardKernel(const T* __restrict__ x, const W* __restrict__ weight, const W* __restrict__ bias,
                  HeldGeometry h, float eps, T* __restrict__ y, float* __restrict__ mean_out,
                  float* __restrict__ rstd_out) {
  constexpr int VEC = kWide<T>;
  using P = Pack<T, VEC>;
  extern __shared__ uint4 held[];
  __shared__ float scratch[2][32];
  __shared__ Pair slots[2];
  const Share s = ShareOf<kCluster>(h);
  const float n = static_cast<float>(h.g.elements);
  const T* in = x + s.group * h.g.elements;
  ForUnits(h, s, [&](const Unit& unit) {
    ForPacks(h, unit, [&](int i) {
      __pipeline_memcpy_async(held + unit.slot + i, in + int64_t{unit.offset + i} * VEC, 16);
    });
  });
  __pipeline_commit();
  __pipeline_wait_prior(0);
  float sum = 0;
  ForUnits(h, s, [&](const Unit& unit) {
    ForPacks(h, unit, [&](int i) {
      float v[VEC], partial = 0;
      Unpack(FromRaw<P>(held[unit.slot + i]), v);
#pragma unroll
      for (int j = 0; j < VEC; ++j) partial += v[j];
      sum += partial;
    });
  });
  const float mean =
      ClusterSum<kCluster>({BlockSum(sum, scratch[0]), 0}, h.blocks, &slots[0]).a / n;
  float squares = 0;
  ForUnits(h, s, [&](const Unit& unit) {
    ForPacks(h, unit, [&](int i) {
      float v[VEC], partial = 0;
      Unpack(FromRaw<P>(held[unit.slot + i]), v);
#pragma unroll
      for (int j = 0; j < VEC; ++j) partial += (v[j] - mean) * (v[j] - mean);
      squares += partial;
    });
  });
  squares = ClusterSum<kCluster>({BlockSum(squares, scratch[1]), 0}, h.blocks, &slots[1]).a;
  const float r = 1.0f / sqrtf(squares / n + eps);
  if (s.rank == 0 && threadIdx.x == 0) {
    mean_out[s.group] = mean;
    rstd_out[s.group] = r;
  }
  T* out = y + s.group * h.g.elements;
  ForUnits(h, s, [&](const Unit& unit) {
    if (unit.packs == 0) return;
    const int64_t channel = s.channel0 + unit.channel;
    const float w = ToFloat(weight[channel]), b = bias == nullptr ? 0.0f : ToFloat(bias[channel]);
    ForPacks(h, unit, [&](int i) {
      float v[VEC];
      Unpack(FromRaw<P>(held[unit.slot + i]), v);
#pragma unroll
      for (int j = 0; j < VEC; ++j) v[j] = (v[j] - mean) * r * w + b;
      Store<VEC>(out + int64_t{unit.offset + i} * VEC, Packed<T>(v));
    });
  });
  LeaveCluster<kCluster>();
}

template <typename T, typename W, bool kCluster>
__global__ void __launch_bounds__(kHeldThreads)
    BackwardKernel(const T* __restrict__ dy, const T* __restrict__ x, const W* __restrict__ weight,
                   const float* __restrict__ means, const float* __restrict__ rstd, HeldGeometry h,
                   T* __restrict__ dx, float* __restrict__ unit_dw, float* __restrict__ unit_db) {
  constexpr int VEC = kWide<T>;
  using P = Pack<T, VEC>;
  extern __shared__ uint4 held[];
  __shared__ Pair scratch[32], slot;
  const Share s = ShareOf<kCluster>(h);
  const int64_t begin = s.group * h.g.elements;
  uint4 *held_x = held, *held_dy = held + h.slots * h.piece_packs;
  ForUnits(h, s, [&](const Unit& unit) {
    ForPacks(h, unit, [&](int i) {
      const int64_t from = begin + int64_t{unit.offset + i} * VEC;
      __pipeline_memcpy_async(held_x + unit.slot + i, x + from, 16);
      __pipeline_memcpy_async(held_dy + unit.slot + i, dy + from, 16);
    });
  });
  __pipeline_commit();
  const float mean = means[s.group], r = rstd[s.group];
  __pipeline_wait_prior(0);
  Pair group_sums = {0, 0};  // of g and g xhat
  ForUnits(h, s, [&](const Unit& unit) {
    Pair sums = {0, 0};  // of dy and dy xhat
    ForPacks(h, unit, [&](int i) {
      float v[VEC], d[VEC];
      Pair partial = {0, 0};
      Unpack(FromRaw<P>(held_x[unit.slot + i]), v);
      Unpack(FromRaw<P>(held_dy[unit.slot + i]), d);
#pragma unroll
      for (int j = 0; j < VEC; ++j) partial += Pair{d[j], d[j] * ((v[j] - mean) * r)};
      sums += partial;
    });
    sums = {TeamSum(sums.a, h.team), TeamSum(sums.b, h.team)};
    if (unit.packs == 0 || threadIdx.x % h.team != 0) return;
    const int64_t channel = s.channel0 + unit.channel;
    const float w = ToFloat(weight[channel]);
    group_sums += Pair{__fmul_rn(w, sums.a), w * sums.b};
    const int64_t index = UnitIndex(h.g, s.n, channel, unit.piece);
    if (unit_dw != nullptr) unit_dw[index] = sums.b;
    if (unit_db != nullptr) unit_db[index] = sums.a;
  });
  if (dx == nullptr) return;
  group_sums = ClusterSum<kCluster>(PairSum(group_sums, scratch), h.blocks, &slot);
  const float n = static_cast<float>(h.g.elements);
  const float mean_g = group_sums.a / n, mean_gx = group_sums.b / n;
  ForUnits(h, s, [&](const Unit& unit) {
    if (unit.packs == 0) return;
    const float w = ToFloat(weight[s.channel0 + unit.channel]);
    ForPacks(h, unit, [&](int i) {
      float v[VEC], d[VEC];
      Unpack(FromRaw<P>(held_x[unit.slot + i]), v);
      Unpack(FromRaw<P>(held_dy[unit.slot + i]), d);
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        const float xhat = (v[j] - mean) * r;
        v[j] = r * (__fmul_rn(d[j], w) - mean_g - xhat * mean_gx);
      }
      Store<VEC>(dx + begin + int64_t{unit.offset + i} * VEC, Packed<T>(v));
    });
  });
  LeaveCluster<kCluster>();
}

struct HeldPlan {
  HeldGeometry h;
  int threads = 0;
  size_t shared = 0;
  bool fits() const { return threads != 0; }
};

// Blocks of a cluster so that three fit on an SM, or two, or one.
HeldPlan PlanHeld(const GroupNormShape& shape, int operands, bool aligned) {
  constexpr int64_t kMostBytes[] = {72 << 10, 110 << 10, 220 << 10};
  constexpr int kMostBlocks = 8;
  const GroupGeometry g = GeometryOf(shape);
  const int64_t wide = shape.dtype == Dtype::kFloat ? 4 : 8;
  const int64_t clusters_of_all = g.N * g.G * kMostBlocks;
  if (!aligned || g.L % wide != 0 || g.elements * 16 / wide > kMostBytes[2] * kMostBlocks ||
      clusters_of_all > INT32_MAX) {
    return {};
  }
  HeldPlan plan{.h = {.g = g,
                      .units = static_cast<int>(g.channels * g.pieces),
                      .pieces = static_cast<int>(g.pieces),
                      .piece_packs = static_cast<int>(g.piece_length / wide),
                      .channel_packs = static_cast<int>(g.L / wide)}};
  plan.h.team = TeamSize(plan.h.piece_packs);
  for (const int64_t most : kMostBytes) {
    for (int blocks = 1; blocks <= kMostBlocks; blocks *= 2) {
      const int slots = (plan.h.units + blocks - 1) / blocks;
      const int64_t bytes = int64_t{16} * operands * slots * plan.h.piece_packs;
      if (bytes > most) continue;
      plan.h.blocks = blocks;
      plan.h.slots = slots;
      const int threads = slots * plan.h.team;
      const int most_threads = blocks == 1 && operands == 1 ? kLoneThreads : kHeldThreads;
      plan.threads = std::min(most_threads, (threads + 31) / 32 * 32);
      plan.shared = static_cast<size_t>(bytes);
      return plan;
    }
  }
  return {};
}

// Launches the kernel of one block a group, or that of clusters. False where the GPU has none, or
// no room for one, or too little shared memory.
template <auto kOne, auto kMany, typename... Arguments>
bool LaunchHeld(const Queue& queue, const HeldPlan& plan, Error* error, Arguments... arguments) {
  const int64_t groups = plan.h.g.N * plan.h.g.G;
  if (plan.h.blocks == 1) {
    if (BlocksPerSm<kOne>(plan.threads, plan.shared) == 0) return false;
    kOne<<<GridOf(groups), plan.threads, plan.shared, StreamOf(queue)>>>(
        arguments...);
    *error = LaunchError();
    return true;
  }
  const auto blocks = static_cast<unsigned>(plan.h.blocks);
  const auto threads = static_cast<unsigned>(plan.threads);
  if (!CompiledForClusters(kMany) ||
      CountActiveClusters<kMany>(blocks, threads, plan.shared) == 0) {
    return false;
  }
  *error = LaunchClusters(queue, kMany, groups, blocks, threads, plan.shared, arguments...);
  return true;
}

}  // namespace

bool HeldForward(const Queue& queue, const GroupNormShape& shape, const void* x, const void* weight,
                 const void* bias, float eps, void* y, float* mean, float* rstd, Error* error) {
  const HeldPlan plan = PlanHeld(shape, 1, IsAligned(x) && IsAligned(y));
  bool done = false;
  if (!plan.fits()) return false;
  const RowsShape types{
      .dtype = shape.dtype, .weight_dtype = shape.weight_dtype, .rows = 0, .H = 0};
  DispatchTypes(types, [&](auto t, auto w) {
    using T = typename decltype(t)::type;
    using W = typename decltype(w)::type;
    done = LaunchHeld<&ForwardKernel<T, W, false>, &ForwardKernel<T, W, true>>(
        queue, plan, error, static_cast<const T*>(x), static_cast<const W*>(weight),
        static_cast<const W*>(bias), plan.h, eps, static_cast<T*>(y), mean, rstd);
  });
  return done;
}

bool HeldBackward(const Queue& queue, const GroupNormShape& shape, const void* dy, const void* x,
                  const void* weight, const float* mean, const float* rstd, void* dx,
                  float* unit_dw, float* unit_db, Error* error) {
  const HeldPlan plan = PlanHeld(shape, 2, IsAligned(dy) && IsAligned(x) && IsAligned(dx));
  bool done = false;
  if (!plan.fits()) return false;
  const RowsShape types{
      .dtype = shape.dtype, .weight_dtype = shape.weight_dtype, .rows = 0, .H = 0};
  DispatchTypes(types, [&](auto t, auto w) {
    using T = typename decltype(t)::type;
    using W = typename decltype(w)::type;
    done = LaunchHeld<&BackwardKernel<T, W, false>, &BackwardKernel<T, W, true>>(
        queue, plan, error, static_cast<const T*>(dy), static_cast<const T*>(x),
        static_cast<const W*>(weight), mean, rstd, plan.h, static_cast<T*>(dx), unit_dw, unit_db);
  });
  return done;
}

}  // namespace liger::kernels::cuda
