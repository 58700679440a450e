#include "kernels/adamw/adamw_rows.h"

#include <bit>
#include <cmath>
#include <type_traits>

#include "kernels/common/vector.h"

namespace liger::kernels {
namespace {

// Adds 16 random bits below the last kept one and cuts: rounds up with the
// probability of the part cut off.
inline void StoreStochastic(float* p, int64_t i, float value, uint32_t) { p[i] = value; }
inline void StoreStochastic(Bf16* p, int64_t i, float value, uint32_t random16) {
  const uint32_t bits = std::bit_cast<uint32_t>(value) + (random16 & 0xffffu);
  p[i].bits = static_cast<uint16_t>(value != value ? 0x7fc0u : bits >> 16);
}

// Bijective mixing of a counter (the finaliser of SplitMix64).
inline uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

struct Updated {
  float param, exp_avg, exp_avg_sq;
};

// As adamw.h has them, and of the one parameter.
struct Scalars {
  float one_minus_beta1, beta2, one_minus_beta2, epsilon, step_size, inv_sqrt_bias2, decay,
      grad_scale;
};

inline Updated Update(float p, float g, float m, float v, const Scalars& s) {
  g *= s.grad_scale;
  m += s.one_minus_beta1 * (g - m);
  v = s.beta2 * v + s.one_minus_beta2 * g * g;
  const float denominator = std::sqrt(v) * s.inv_sqrt_bias2 + s.epsilon;
  return {p * s.decay - s.step_size * m / denominator, m, v};
}

template <typename P, typename G, typename S, typename C>
struct Span {
  P* param;
  C* compute;  // null: param is what the model reads
  const G* grad;
  S* exp_avg;
  S* exp_avg_sq;
};

template <typename P, typename G, typename S, typename C>
[[gnu::always_inline]] inline void NearestLoop(const Span<P, G, S, C>& x, const Scalars& s,
                                               int64_t begin, int64_t end) {
#pragma GCC ivdep
  for (int64_t i = begin; i < end; ++i) {
    const Updated u = Update(ToFloat(x.param[i]), ToFloat(x.grad[i]), ToFloat(x.exp_avg[i]),
                             ToFloat(x.exp_avg_sq[i]), s);
    x.param[i] = FromFloat<P>(u.param);
    x.exp_avg[i] = FromFloat<S>(u.exp_avg);
    x.exp_avg_sq[i] = FromFloat<S>(u.exp_avg_sq);
  }
  if (x.compute == nullptr) return;
#pragma GCC ivdep
  for (int64_t i = begin; i < end; ++i) x.compute[i] = FromFloat<C>(ToFloat(x.param[i]));
}

template <typename P, typename G, typename S, typename C>
[[gnu::always_inline]] inline void StochasticLoop(const Span<P, G, S, C>& x, const Scalars& s,
                                                  uint64_t stream, int64_t begin, int64_t end) {
#pragma GCC ivdep
  for (int64_t i = begin; i < end; ++i) {
    const Updated u = Update(ToFloat(x.param[i]), ToFloat(x.grad[i]), ToFloat(x.exp_avg[i]),
                             ToFloat(x.exp_avg_sq[i]), s);
    const uint64_t random = Mix(stream + uint64_t(i) * 0x9e3779b97f4a7c15ull);
    StoreStochastic(x.param, i, u.param, uint32_t(random));
    StoreStochastic(x.exp_avg, i, u.exp_avg, uint32_t(random >> 16));
    StoreStochastic(x.exp_avg_sq, i, u.exp_avg_sq, uint32_t(random >> 32));
  }
  if (x.compute == nullptr) return;
#pragma GCC ivdep
  for (int64_t i = begin; i < end; ++i) x.compute[i] = FromFloat<C>(ToFloat(x.param[i]));
}

// The common case, fp32 throughout, cloned by name: templates cannot be.
LIGER_VECTOR_CLONES void Fp32Loop(const Span<float, float, float, float>& x, const Scalars& s,
                                  int64_t begin, int64_t end) {
  NearestLoop(x, s, begin, end);
}
LIGER_VECTOR_CLONES void MixedLoop(const Span<float, float, float, Bf16>& x, const Scalars& s,
                                   int64_t begin, int64_t end) {
  NearestLoop(x, s, begin, end);
}
LIGER_VECTOR_CLONES void Bf16Loop(const Span<Bf16, Bf16, Bf16, Bf16>& x, const Scalars& s,
                                  uint64_t stream, int64_t begin, int64_t end) {
  StochasticLoop(x, s, stream, begin, end);
}

template <typename P, typename G, typename S, typename C>
void RunLoop(const Span<P, G, S, C>& x, const Scalars& s, bool stochastic, uint64_t stream,
             int64_t begin, int64_t end) {
  if constexpr (std::is_same_v<Span<P, G, S, C>, Span<float, float, float, float>>) {
    Fp32Loop(x, s, begin, end);  // nothing to round
  } else if constexpr (std::is_same_v<Span<P, G, S, C>, Span<float, float, float, Bf16>>) {
    MixedLoop(x, s, begin, end);  // the compute copy is rounded to nearest
  } else if constexpr (std::is_same_v<Span<P, G, S, C>, Span<Bf16, Bf16, Bf16, Bf16>>) {
    stochastic ? Bf16Loop(x, s, stream, begin, end) : NearestLoop(x, s, begin, end);
  } else {
    stochastic ? StochasticLoop(x, s, stream, begin, end) : NearestLoop(x, s, begin, end);
  }
}

// Calls f with a typed null pointer.
template <typename F>
void WithType(bool is_bf16, F f) {
  if (is_bf16) {
    f(static_cast<Bf16*>(nullptr));
  } else {
    f(static_cast<float*>(nullptr));
  }
}

}  // namespace

void AdamWRows(const AdamWRow& row, const AdamWScalars& s, float grad_scale, bool stochastic,
               int64_t begin, int64_t end) {
  const Scalars scalars{s.one_minus_beta1, s.beta2,          s.one_minus_beta2, s.epsilon,
                        s.step_size,       s.inv_sqrt_bias2, row.decay,         grad_scale};
  WithType(row.param_is_bf16, [&](auto* p) {
    WithType(row.grad_is_bf16, [&](auto* g) {
      WithType(row.state_is_bf16, [&](auto* m) {
        WithType(row.compute_is_bf16, [&](auto* c) {
          using P = std::remove_pointer_t<decltype(p)>;
          using G = std::remove_pointer_t<decltype(g)>;
          using S = std::remove_pointer_t<decltype(m)>;
          using C = std::remove_pointer_t<decltype(c)>;
          const Span<P, G, S, C> span{static_cast<P*>(row.param), static_cast<C*>(row.compute),
                                      static_cast<const G*>(row.grad), static_cast<S*>(row.exp_avg),
                                      static_cast<S*>(row.exp_avg_sq)};
          RunLoop(span, scalars, stochastic, row.stream, begin, end);
        });
      });
    });
  });
}

}  // namespace liger::kernels
