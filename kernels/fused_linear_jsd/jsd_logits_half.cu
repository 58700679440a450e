#include <cooperative_groups.h>
#include <cuda_pipeline.h>

#include <algorithm>
#include <cmath>

#include "kernels/common/cluster_sums.cuh"
#include "kernels/fused_linear_jsd/jsd_logits_launch.h"

// The single pass over 16-bit logits, in powers of two: clusters of blocks walk over the rows and
// hold a student's and a teacher's row in registers, while shared memory takes the next two.
namespace liger::kernels::cuda {
namespace {

constexpr int kThreads = kReduceThreads;
[[maybe_unused]] constexpr float kLn2 = 0.69314718055994531f;

// beta 0 is KL(teacher || student), 1 KL(student || teacher).
enum class Form { kForward, kReverse, kMixed };

// log2 of softmax(z / temperature) plus a constant: (z - base) * factor - rest.
struct Log2Prob {
  float factor, base, rest;
};
[[maybe_unused]] __device__ __forceinline__ float At(const Log2Prob& log, float z) {
  return fmaf(z - log.base, log.factor, -log.rest);
}

[[maybe_unused]] __device__ __forceinline__ float Exp2(float x) {
  float e;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(x));
  return e;
}
[[maybe_unused]] __device__ __forceinline__ float Log2(float x) {
  float l;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(l) : "f"(x));
  return l;
}

struct Share {
  float loss;   // of a class, over ln 2
  float slope;  // its derivative by log q, over SlopeUnit
  float q;      // over WeightOfQ
};

// x = log2 q and y = log2 p; kMixed: of (1 - beta) q and beta p.
template <Form FORM>
struct Terms {
  float log2_beta, log2_rest;

  // Factors that the shares leave out.
  __device__ static constexpr float SlopeUnit() { return FORM == Form::kMixed ? kLn2 : 1.0f; }

  __device__ __forceinline__ Share operator()(float x, float y) const {
    if constexpr (FORM == Form::kForward) {
      const float p = Exp2(y);
      return {p == 0 ? 0.0f : p * (y - x), -p, Exp2(x)};
    } else if constexpr (FORM == Form::kReverse) {
      const float q = Exp2(x), d = x - y;
      return {q == 0 ? 0.0f : q * d, q == 0 ? 0.0f : q * fmaf(d, kLn2, 1.0f), q};
    } else {
      // The mixture is the larger one times 1 + their ratio, whose logarithm loses nothing where
      // both are alike. The ratio of two zeros is one of a zero and something.
      const float apart = fminf(fabsf(y - x), 1000.0f), ratio = Exp2(-apart);
      const float larger = Exp2(fmaxf(x, y)), smaller = larger * ratio;
      const bool p_is_larger = y > x;
      const float q = p_is_larger ? smaller : larger, p = p_is_larger ? larger : smaller;
      const float above = p_is_larger ? apart : 0.0f, log2_sum = Log2(1.0f + ratio);
      const float of_q = q * ((-above - log2_sum) - log2_rest);
      const float of_p = p * (((above - apart) - log2_sum) - log2_beta);
      return {of_q + of_p, of_q, q};
    }
  }
};

struct HalfParams {
  int64_t C, V;
  int span;  // packs of a row in a block
  float log2_beta, log2_rest, rest;  // rest = 1 - beta
  float inv_temperature;
  bool write_grad;
  double* row_loss;
};

template <typename T, int PACKS, Form FORM>
__global__ void __launch_bounds__(kThreads, PACKS == 4 ? 2 : 1)
    HalfKernel(T* student, const T* teacher, HalfParams params) {
#if __CUDA_ARCH__ >= 900
  constexpr int VEC = kWide<T>;
  using P = Pack<T, VEC>;
  extern __shared__ uint4 staged[];
  __shared__ WarpSums sums[2][MaxWarps(kThreads)];  // of the student's and the teacher's row
  __shared__ float2 terms[MaxWarps(kThreads)];      // loss and slope
  const auto cluster = cooperative_groups::this_cluster();
  const int blocks = static_cast<int>(cluster.num_blocks());
  const int rank = static_cast<int>(cluster.block_rank());
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  constexpr int kWarps = kThreads / 32;
  const int slot = rank * kWarps + thread / 32, warps = blocks * kWarps;
  const int packs = min(params.span, static_cast<int>(params.V / VEC) - rank * params.span);
  const int mine = max(0, (packs - thread + kThreads - 1) / kThreads);
  const int64_t first = (int64_t{rank} * params.span + thread) * VEC;
  constexpr int kStep = kThreads * VEC;
  const int64_t step = gridDim.x / blocks;
  uint4* const own = staged + thread;
  const auto fetch = [&](int64_t row) {
    if (row < params.C) {
#pragma unroll
      for (int i = 0; i < PACKS; ++i) {
        if (i >= mine) break;
        const int64_t at = row * params.V + first + i * kStep;
        __pipeline_memcpy_async(own + 2 * i * kThreads, student + at, 16);
        __pipeline_memcpy_async(own + (2 * i + 1) * kThreads, teacher + at, 16);
      }
    }
    __pipeline_commit();
  };
  const float factor = params.inv_temperature * kLog2e;
  const Terms<FORM> term{params.log2_beta, params.log2_rest};
  // kMixed: what the probabilities of Terms carry.
  const float log2_of_q = FORM == Form::kMixed ? term.log2_rest : 0.0f;
  const float log2_of_p = FORM == Form::kMixed ? term.log2_beta : 0.0f;
  fetch(blockIdx.x / blocks);
  // Nobody writes to a block that is not there yet.
  cluster.sync();
  for (int64_t c = blockIdx.x / blocks; c < params.C; c += step) {
    __pipeline_wait_prior(0);
    P s[PACKS], t[PACKS];
    Largest<T> top_s, top_t;
#pragma unroll
    for (int i = 0; i < PACKS; ++i) {
      if (i >= mine) break;
      s[i] = FromRaw<P>(own[2 * i * kThreads]);
      t[i] = FromRaw<P>(own[(2 * i + 1) * kThreads]);
      top_s.Take(s[i]);
      top_t.Take(t[i]);
    }
    // Calls f(i, student's logits, teacher's logits) of this thread's packs.
    const auto for_each = [&](auto&& f) {
#pragma unroll
      for (int i = 0; i < PACKS; ++i) {
        if (i >= mine) break;
        float a[VEC], b[VEC];
        Unpack(s[i], a);
        Unpack(t[i], b);
        f(i, a, b);
      }
    };
    // The places are free: what was in them has been used.
    const float base_s = WarpMax(top_s.Get()), base_t = WarpMax(top_t.Get());
    fetch(c + step);
    {
      const float finite_s = base_s == -INFINITY ? 0.0f : base_s;
      const float finite_t = base_t == -INFINITY ? 0.0f : base_t;
      float e_s = 0, e_t = 0;
      for_each([&](int, const float(&a)[VEC], const float(&b)[VEC]) {
#pragma unroll
        for (int j = 0; j < VEC; ++j) {
          e_s += Exp2((a[j] - finite_s) * factor);
          e_t += Exp2((b[j] - finite_t) * factor);
        }
      });
      const WarpSums of_s{base_s, WarpSum(e_s)}, of_t{base_t, WarpSum(e_t)};
      if (lane < blocks) {
        *cluster.map_shared_rank(&sums[0][slot], lane) = of_s;
        *cluster.map_shared_rank(&sums[1][slot], lane) = of_t;
      }
    }
    ArriveAtCluster();
    WaitForCluster();
    const RowSums row_s = SumRow<false, T>(sums[0], nullptr, warps, factor);
    const RowSums row_t = SumRow<false, T>(sums[1], nullptr, warps, factor);
    Log2Prob log_q{factor, row_s.base, log2f(static_cast<float>(row_s.e)) - log2_of_q};
    Log2Prob log_p{factor, row_t.base, log2f(static_cast<float>(row_t.e)) - log2_of_p};
    // A NaN in either row makes both NaN: a larger or smaller one of the two would drop it.
    if (isnan(log_q.rest) || isnan(log_p.rest)) log_q.rest = log_p.rest = NAN;
    float loss = 0, slope = 0;
    for_each([&](int, const float(&a)[VEC], const float(&b)[VEC]) {
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        const Share share = term(At(log_q, a[j]), At(log_p, b[j]));
        loss += share.loss;
        slope += share.slope;
      }
    });
    const float2 of_warp = make_float2(WarpSum(loss), WarpSum(slope));
    if (lane < blocks) *cluster.map_shared_rank(&terms[slot], lane) = of_warp;
    ArriveAtCluster();
    WaitForCluster();
    double row = 0, slopes = 0;
    for (int w = lane; w < warps; w += 32) {
      row += double{terms[w].x};
      slopes += double{terms[w].y};
    }
    slopes = WarpSum(slopes);
    if (rank == 0 && thread < 32) {
      row = WarpSum(row);
      if (thread == 0) params.row_loss[c] = row * double{kLn2};
    }
    if (!params.write_grad) continue;
    // d loss / d z_v = (g_v - q_v sum of g) / temperature.
    const float unit = Terms<FORM>::SlopeUnit() * params.inv_temperature;
    const float weight_of_q = FORM == Form::kMixed ? params.rest : 1.0f;
    const float minus_slopes = -static_cast<float>(slopes) * unit / weight_of_q;
    T* const to = student + c * params.V + first;
    for_each([&](int i, float(&a)[VEC], const float(&b)[VEC]) {
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        const Share share = term(At(log_q, a[j]), At(log_p, b[j]));
        a[j] = fmaf(share.slope, unit, share.q * minus_slopes);
      }
      Store<VEC>(to + i * kStep, Packed<T>(a));
    });
  }
  // Nobody leaves, or its shared memory with it, before all have written there.
  cluster.sync();
#else
  __trap();
#endif
}

// A row of one operand in a block, 64 or 128 bytes a thread.
constexpr int64_t kHeldBytes = int64_t{kThreads} * 64;

// How a row is spread over a cluster.
struct Spread {
  unsigned blocks;
  int span;  // packs of a block
  size_t shared;
};

Spread SpreadOf(int64_t V, int64_t wide, int packs) {
  const int64_t all = V / wide, held = int64_t{kThreads} * packs;
  const auto blocks = static_cast<unsigned>((all + held - 1) / held);
  return {blocks, static_cast<int>((all + blocks - 1) / blocks),
          static_cast<size_t>(2 * held * 16)};
}

// Calls f(TypeTag<T>, packs, form) for the kernel of these rows.
template <typename F>
void Dispatch(const JsdLogits& logits, const F& f) {
  const auto with_form = [&](auto t, auto packs) {
    if (logits.beta == 0) {
      f(t, packs, std::integral_constant<Form, Form::kForward>{});
    } else if (logits.beta == 1) {
      f(t, packs, std::integral_constant<Form, Form::kReverse>{});
    } else {
      f(t, packs, std::integral_constant<Form, Form::kMixed>{});
    }
  };
  const auto with_packs = [&](auto t) {
    if (logits.V * 2 <= kHeldBytes * kMaxCluster) {
      with_form(t, std::integral_constant<int, 4>{});
    } else {
      with_form(t, std::integral_constant<int, 8>{});
    }
  };
  if (logits.dtype == Dtype::kHalf) {
    with_packs(TypeTag<__half>{});
  } else {
    with_packs(TypeTag<__nv_bfloat16>{});
  }
}

bool ClustersFit(const JsdLogits& logits) {
  int most = 0;
  Dispatch(logits, [&](auto t, auto packs, auto form) {
    using T = typename decltype(t)::type;
    const Spread spread = SpreadOf(logits.V, kWide<T>, packs());
    most = CountActiveClusters<&HalfKernel<T, packs(), form()>>(spread.blocks, kThreads,
                                                                spread.shared);
  });
  return most > 0;
}

}  // namespace

bool HasHalfJsd(const JsdLogits& logits) {
  constexpr int64_t kVec = 8;
  return logits.dtype != Dtype::kFloat && IsAligned(logits.student) && IsAligned(logits.teacher) &&
         logits.V > 0 && logits.V % kVec == 0 && logits.V * 2 <= 2 * kHeldBytes * kMaxCluster &&
         CompiledForClusters(HalfKernel<__half, 4, Form::kMixed>) && ClustersFit(logits);
}

Error HalfJsdOfLogits(const Queue& queue, const JsdLogits& logits, double* row_loss) {
  if (logits.C == 0 || logits.V == 0) return 0;
  Error error = 0;
  Dispatch(logits, [&](auto t, auto packs, auto form) {
    using T = typename decltype(t)::type;
    constexpr auto kKernel = &HalfKernel<T, packs(), form()>;
    const Spread spread = SpreadOf(logits.V, kWide<T>, packs());
    const HalfParams params{.C = logits.C,
                            .V = logits.V,
                            .span = spread.span,
                            .log2_beta = static_cast<float>(std::log2(logits.beta)),
                            .log2_rest = static_cast<float>(std::log2(1 - logits.beta)),
                            .rest = static_cast<float>(1 - logits.beta),
                            .inv_temperature = static_cast<float>(1 / logits.temperature),
                            .write_grad = logits.write_grad,
                            .row_loss = row_loss};
    const int most = CountActiveClusters<kKernel>(spread.blocks, kThreads, spread.shared);
    error = LaunchClusters(queue, kKernel, std::min<int64_t>(logits.C, most), spread.blocks,
                           kThreads, spread.shared, static_cast<T*>(logits.student),
                           static_cast<const T*>(logits.teacher), params);
  });
  return error;
}

}  // namespace liger::kernels::cuda
