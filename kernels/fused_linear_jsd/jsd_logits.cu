#include <cooperative_groups.h>

#include <type_traits>

#include "kernels/common/cluster.cuh"
#include "kernels/common/logits.cuh"
#include "kernels/divergence/divergence_terms.h"
#include "kernels/fused_linear_jsd/jsd_logits_launch.h"

namespace liger::kernels::cuda {
namespace {

constexpr int kThreads = kReduceThreads;
// Bytes of each row that one block of a cluster holds, 64 or 128 a thread.
constexpr int64_t kHeldBytes = int64_t{kThreads} * 64;
constexpr int kMaxCluster = 8;

struct JsdParams {
  int64_t V;
  double beta;
  float inv_temperature;
  bool write_grad;
  double* row_loss;
};

// What a thread has of both rows, in registers.
template <typename T, int PACKS>
class HeldPacks {
 public:
  static constexpr int VEC = kWide<T>;
  static constexpr int64_t kStep = int64_t{kThreads} * VEC;

  __device__ __forceinline__ HeldPacks(const T* student, const T* teacher, int64_t begin,
                                       int64_t end)
      : first_(begin + int64_t{threadIdx.x} * VEC), end_(end) {
#pragma unroll
    for (int i = 0; i < PACKS; ++i) {
      const int64_t v = first_ + i * kStep;
      if (v >= end_) break;
      student_[i] = Load<VEC>(student + v);
      teacher_[i] = Load<VEC>(teacher + v);
    }
  }

  // Calls f(v, student's logits, teacher's logits).
  template <typename F>
  __device__ __forceinline__ void ForEach(F&& f) const {
#pragma unroll
    for (int i = 0; i < PACKS; ++i) {
      const int64_t v = first_ + i * kStep;
      if (v >= end_) break;
      float s[VEC], t[VEC];
      Unpack(student_[i], s);
      Unpack(teacher_[i], t);
      f(v, s, t);
    }
  }

 private:
  int64_t first_, end_;
  Pack<T, VEC> student_[PACKS], teacher_[PACKS];
};

// The same, read again each time. A thread may overwrite what it has just been given.
template <typename T, int VECTOR>
class StreamedPacks {
 public:
  static constexpr int VEC = VECTOR;

  __device__ __forceinline__ StreamedPacks(const T* student, const T* teacher, int64_t end)
      : student_(student), teacher_(teacher), end_(end) {}

  template <typename F>
  __device__ __forceinline__ void ForEach(F&& f) const {
    for (int64_t v = int64_t{threadIdx.x} * VEC; v < end_; v += int64_t{kThreads} * VEC) {
      float s[VEC], t[VEC];
      Unpack(Load<VEC>(student_ + v), s);
      Unpack(Load<VEC>(teacher_ + v), t);
      f(v, s, t);
    }
  }

 private:
  const T *student_, *teacher_;
  int64_t end_;
};

// log p of a class from its scaled logit. The logsumexp in two floats: rounded to one it would
// cost every class the same digits.
template <typename C>
struct LogProb {
  C high, low;
  __device__ explicit LogProb(double logsumexp)
      : high(static_cast<C>(logsumexp)), low(static_cast<C>(logsumexp - double{high})) {}
  __device__ __forceinline__ C operator()(float z) const { return (C{z} - high) - low; }
};

struct TwoSums {
  double a, b;
};

#if __CUDA_ARCH__ >= 900
// Sums over the blocks of a cluster, in the order of a tree over their ranks: equal in all.
// `mine` and `all` are shared memory that nothing else uses.
__device__ __forceinline__ TwoSums ClusterSum(const TwoSums& sums, TwoSums* mine, TwoSums* all) {
  const auto cluster = cooperative_groups::this_cluster();
  if (threadIdx.x == 0) *mine = sums;
  cluster.sync();
  if (threadIdx.x < 32) {
    TwoSums t{0, 0};
    if (threadIdx.x < cluster.num_blocks()) t = *cluster.map_shared_rank(mine, threadIdx.x);
    t = {WarpSum(t.a), WarpSum(t.b)};
    if (threadIdx.x == 0) *all = t;
  }
  __syncthreads();
  return *all;
}

// The logsumexp of a row whose blocks have summed relative to their own maxima.
__device__ __forceinline__ double ClusterLogSumExp(const Totals& block, TwoSums* mine,
                                                   double* all) {
  const auto cluster = cooperative_groups::this_cluster();
  if (threadIdx.x == 0) *mine = {block.max, block.e};
  cluster.sync();
  if (threadIdx.x < 32) {
    Totals t{-INFINITY, 0, 0, 0, 0};
    if (threadIdx.x < cluster.num_blocks()) {
      const TwoSums other = *cluster.map_shared_rank(mine, threadIdx.x);
      t.max = other.a;
      t.e = other.b;
    }
    double top = t.max;
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
      top = fmax(top, __shfl_xor_sync(0xffffffffu, top, offset));
    }
    RebaseTo<false>(top, t);
    t.e = WarpSum(t.e);
    if (threadIdx.x == 0) *all = top + log(t.e);
  }
  __syncthreads();
  return *all;
}
#endif

// One row, by a block or by the blocks of a cluster. `grad` is where the student's logits are.
template <typename T, bool kCluster, typename Packs>
__device__ __forceinline__ void JsdRow(const Packs& packs, const JsdParams& params, int64_t row,
                                       unsigned rank, T* grad) {
  constexpr int VEC = Packs::VEC;
  // Rounded in each of the passes: fused with the subtraction of the maximum the logsumexp would be
  // of other numbers than those whose probabilities it normalises.
  const auto scale = [&](float(&z)[VEC]) {
#pragma unroll
    for (int j = 0; j < VEC; ++j) z[j] = __fmul_rn(z[j], params.inv_temperature);
  };
  Sums student, teacher;
  packs.ForEach([&](int64_t, float(&s)[VEC], float(&t)[VEC]) {
    scale(s);
    scale(t);
    Add<false, T>(s, student);
    Add<false, T>(t, teacher);
  });
  const Totals of_student = ReduceBlock<false>(student);
  __syncthreads();
  const Totals of_teacher = ReduceBlock<false>(teacher);
  double lse_student = of_student.max + log(of_student.e);
  double lse_teacher = of_teacher.max + log(of_teacher.e);
#if __CUDA_ARCH__ >= 900
  if constexpr (kCluster) {
    __shared__ TwoSums mine[2];
    __shared__ double all[2];
    lse_student = ClusterLogSumExp(of_student, &mine[0], &all[0]);
    lse_teacher = ClusterLogSumExp(of_teacher, &mine[1], &all[1]);
  }
#endif
  // float32 logits are far apart where classes hardly differ: what cancels takes double.
  using C = std::conditional_t<std::is_same_v<T, float>, double, float>;
  const LogProb<C> log_q(lse_student), log_p(lse_teacher);
  const divergence::JsdTerm term{params.beta};
  TwoSums sums{0, 0};  // of the loss, and of d loss / d log_q
  packs.ForEach([&](int64_t, float(&s)[VEC], float(&t)[VEC]) {
    scale(s);
    scale(t);
    C loss = 0, slope = 0;
#pragma unroll
    for (int j = 0; j < VEC; ++j) {
      const divergence::Term<C> one = term(log_q(s[j]), log_p(t[j]));
      loss += one.loss;
      slope += one.grad;
    }
    sums.a += double{loss};
    sums.b += double{slope};
  });
  __shared__ double scratch[2][32];
  sums = {BlockSum(sums.a, scratch[0]), BlockSum(sums.b, scratch[1])};
#if __CUDA_ARCH__ >= 900
  if constexpr (kCluster) {
    __shared__ TwoSums mine, all;
    sums = ClusterSum(sums, &mine, &all);
  }
#endif
  if (rank == 0 && threadIdx.x == 0) params.row_loss[row] = sums.a;
  if (!params.write_grad) return;
  // d loss / d z_v = (g_v - q_v sum of g) / temperature.
  const C slopes = static_cast<C>(sums.b);
  packs.ForEach([&](int64_t v, float(&s)[VEC], float(&t)[VEC]) {
    scale(s);
    scale(t);
#pragma unroll
    for (int j = 0; j < VEC; ++j) {
      const C x = log_q(s[j]);
      s[j] =
          params.inv_temperature * static_cast<float>(term(x, log_p(t[j])).grad - exp(x) * slopes);
    }
    Store<VEC>(grad + v, Packed<T>(s));
  });
}

// One cluster a row of float32; each block keeps its span of both rows in registers. 16-bit rows
// have jsd_logits_half.cu.
template <int PACKS>
__global__ void __launch_bounds__(kThreads, PACKS == 4 ? 2 : 1)
    SinglePassKernel(float* student, const float* teacher, int64_t span, JsdParams params) {
#if __CUDA_ARCH__ >= 900
  const auto cluster = cooperative_groups::this_cluster();
  const unsigned blocks = cluster.num_blocks(), rank = cluster.block_rank();
  const int64_t row = blockIdx.x / blocks, first = row * params.V;
  const int64_t begin = rank * span;
  const int64_t end = begin + span < params.V ? begin + span : params.V;
  const HeldPacks<float, PACKS> packs(student + first, teacher + first, begin, end);
  JsdRow<float, true>(packs, params, row, rank, student + first);
  // Nobody leaves, or its shared memory with it, before all have read.
  cluster.sync();
#else
  __trap();
#endif
}

// One block a row, which is read three times.
template <typename T, int VEC>
__global__ void __launch_bounds__(kThreads)
    StreamedKernel(T* student, const T* teacher, JsdParams params) {
  const int64_t row = blockIdx.x, first = row * params.V;
  const StreamedPacks<T, VEC> packs(student + first, teacher + first, params.V);
  JsdRow<T, false>(packs, params, row, 0, student + first);
}

}  // namespace

Error JsdOfLogits(const Queue& queue, const JsdLogits& logits, double* row_loss) {
  if (logits.C == 0) return 0;
  if (HasHalfJsd(logits)) return HalfJsdOfLogits(queue, logits, row_loss);
  const JsdParams params{.V = logits.V,
                         .beta = logits.beta,
                         .inv_temperature = static_cast<float>(1 / logits.temperature),
                         .write_grad = logits.write_grad,
                         .row_loss = row_loss};
  Error error = 0;
  DispatchDtype(logits.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    constexpr int kVec = kWide<T>;
    T* student = static_cast<T*>(logits.student);
    const T* teacher = static_cast<const T*>(logits.teacher);
    const auto stream = [&](auto vec) {
      StreamedKernel<T, vec()><<<GridOf(logits.C), kThreads, 0, StreamOf(queue)>>>(
          student, teacher, params);
      error = LaunchError();
    };
    if (!IsAligned(student) || !IsAligned(teacher) || logits.V % kVec != 0) {
      return stream(std::integral_constant<int, 1>{});
    }
    if constexpr (std::is_same_v<T, float>) {
      const auto hold = [&](auto packs) {
        const int64_t wide = logits.V / kVec, held = int64_t{kThreads} * packs();
        const int64_t blocks = (wide + held - 1) / held;
        const int64_t span = (wide + blocks - 1) / blocks * kVec;
        constexpr auto kKernel = &SinglePassKernel<packs()>;
        if (CountActiveClusters<kKernel>(static_cast<unsigned>(blocks), kThreads, 0) == 0) {
          return stream(std::integral_constant<int, kVec>{});
        }
        error = LaunchClusters(queue, kKernel, logits.C,
                               static_cast<unsigned>(blocks), kThreads, 0, student, teacher, span,
                               params);
      };
      const int64_t row_bytes = logits.V * static_cast<int64_t>(sizeof(T));
      if (row_bytes <= 2 * kHeldBytes * kMaxCluster && CompiledForClusters(SinglePassKernel<4>)) {
        return row_bytes > kHeldBytes * kMaxCluster ? hold(std::integral_constant<int, 8>{})
                                                    : hold(std::integral_constant<int, 4>{});
      }
    }
    stream(std::integral_constant<int, kVec>{});
  });
  return error;
}

}  // namespace liger::kernels::cuda
