#ifndef LIGER_KERNELS_DIVERGENCE_DIVERGENCE_TERMS_H_
#define LIGER_KERNELS_DIVERGENCE_DIVERGENCE_TERMS_H_

#include <cmath>

#ifdef __CUDACC__
#define LIGER_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define LIGER_HOST_DEVICE inline
#endif

// One class's share of a divergence and its derivative by the first argument: the same lines in
// float on a GPU and in double on a CPU. No torch and no CUDA headers.
namespace liger::kernels::divergence {

enum class Kind { kKl, kKlLog, kJsd, kTvd };

template <typename F>
struct Term {
  F loss, grad;
};

// x = log q, p.
struct Kl {
  double parameter;  // eps
  template <typename F>
  LIGER_HOST_DEVICE Term<F> operator()(F x, F p) const {
    if (p == 0) return {0, 0};
    const F eps = static_cast<F>(parameter);
    return {p * (log(p < eps ? eps : p) - x), -p};
  }
};

// x = log q, y = log p.
struct KlLog {
  double parameter;
  template <typename F>
  LIGER_HOST_DEVICE Term<F> operator()(F x, F y) const {
    const F p = exp(y);
    if (p == 0) return {0, 0};
    return {p * (y - x), -p};
  }
};

// x = log q, y = log p.
struct JsdTerm {
  double parameter;  // beta
  template <typename F>
  LIGER_HOST_DEVICE Term<F> operator()(F x, F y) const {
    if (parameter == 0) return KlLog{0}(x, y);
    const F q = exp(x);
    if (parameter == 1) return q == 0 ? Term<F>{0, 0} : Term<F>{q * (x - y), q * (x - y + 1)};
    const F p = exp(y);
    const F beta = static_cast<F>(parameter), rest = static_cast<F>(1 - parameter);
    // A share that underflows counts nothing; one that does not keeps the mixture from it.
    const F weighted_p = beta * p, weighted_q = rest * q;
    const F log_m = log(weighted_p + weighted_q);
    const F of_p = weighted_p == 0 ? F(0) : weighted_p * (y - log_m);
    const F of_q = weighted_q == 0 ? F(0) : weighted_q * (x - log_m);
    return {of_p + of_q, of_q};
  }
};

struct TvdTerm {
  double parameter;
  template <typename F>
  LIGER_HOST_DEVICE Term<F> operator()(F p, F q) const {
    const F d = p - q, half = static_cast<F>(0.5);
    // The last gives 0, or NaN.
    return {half * (d < 0 ? -d : d), d > 0 ? half : d < 0 ? -half : d};
  }
};

// Calls f with the term of a kind.
template <typename F>
void DispatchKind(Kind kind, double parameter, F&& f) {
  switch (kind) {
    case Kind::kKl:
      return f(Kl{parameter});
    case Kind::kKlLog:
      return f(KlLog{parameter});
    case Kind::kJsd:
      return f(JsdTerm{parameter});
    case Kind::kTvd:
      return f(TvdTerm{parameter});
  }
}

}  // namespace liger::kernels::divergence

#endif  // LIGER_KERNELS_DIVERGENCE_DIVERGENCE_TERMS_H_
