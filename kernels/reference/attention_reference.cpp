#include "kernels/reference/attention_reference.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace liger::kernels::reference {
namespace {

double Dot(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

void AddScaled(double scale, const double* x, int64_t n, double* y) {
  for (int64_t i = 0; i < n; ++i) y[i] += scale * x[i];
}

// One query of one head: keys and values are `stride` numbers apart.
struct Row {
  const double *query, *keys, *values, *grad;
  double *out, *grad_query, *grad_keys, *grad_values;
  int64_t num_keys, stride, H;
};

void Solve(const Row& r, const AttentionOptions& options) {
  std::vector<double> capped(static_cast<size_t>(r.num_keys)), slope(capped.size(), 1.0);
  double max = -std::numeric_limits<double>::infinity(), sum = 0;
  for (size_t j = 0; j < capped.size(); ++j) {
    const int64_t at = static_cast<int64_t>(j) * r.stride;
    capped[j] = options.scale * Dot(r.query, r.keys + at, r.H);
    if (options.softcap > 0) {
      const double t = std::tanh(capped[j] / options.softcap);
      slope[j] = 1 - t * t;
      capped[j] = options.softcap * t;
    }
    max = std::max(max, capped[j]);
  }
  for (double& p : capped) sum += p = std::exp(p - max);
  double expected = 0;  // of <grad, value> under the softmax
  for (size_t j = 0; j < capped.size(); ++j) {
    const int64_t at = static_cast<int64_t>(j) * r.stride;
    capped[j] /= sum;
    AddScaled(capped[j], r.values + at, r.H, r.out);
    AddScaled(capped[j], r.grad, r.H, r.grad_values + at);
    expected += capped[j] * Dot(r.grad, r.values + at, r.H);
  }
  for (size_t j = 0; j < capped.size(); ++j) {
    const int64_t at = static_cast<int64_t>(j) * r.stride;
    const double grad_score =
        options.scale * slope[j] * capped[j] * (Dot(r.grad, r.values + at, r.H) - expected);
    AddScaled(grad_score, r.keys + at, r.H, r.grad_query);
    AddScaled(grad_score, r.query, r.H, r.grad_keys + at);
  }
}

}  // namespace

Result Attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                 const AttentionSpans& spans, const AttentionOptions& options,
                 const at::Tensor& grad) {
  const int64_t N = query.size(1), K = key.size(1), H = query.size(2);
  at::Tensor out = at::zeros_like(query), dq = at::zeros_like(query);
  at::Tensor dk = at::zeros_like(key), dv = at::zeros_like(value);
  for (int64_t s = 0; s < spans.size(); ++s) {
    const auto i = static_cast<size_t>(s);
    const int64_t prefix = spans.num_keys(s) - spans.num_queries(s);
    for (int64_t q = 0; q < spans.num_queries(s); ++q) {
      const int64_t place = prefix + q;
      const int64_t first =
          options.window > 0 ? std::max<int64_t>(0, place - options.window + 1) : 0;
      for (int64_t n = 0; n < N; ++n) {
        const int64_t at_query = ((spans.query_offsets[i] + q) * N + n) * H;
        const int64_t at_key = ((spans.key_offsets[i] + first) * K + n / (N / K)) * H;
        Solve({.query = query.data_ptr<double>() + at_query,
               .keys = key.data_ptr<double>() + at_key,
               .values = value.data_ptr<double>() + at_key,
               .grad = grad.data_ptr<double>() + at_query,
               .out = out.data_ptr<double>() + at_query,
               .grad_query = dq.data_ptr<double>() + at_query,
               .grad_keys = dk.data_ptr<double>() + at_key,
               .grad_values = dv.data_ptr<double>() + at_key,
               .num_keys = place + 1 - first,
               .stride = K * H,
               .H = H},
              options);
      }
    }
  }
  return {{out}, {dq, dk, dv}};
}

}  // namespace liger::kernels::reference
