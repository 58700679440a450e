#include "kernels/reference/head_options_reference.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

namespace liger::kernels::reference {
namespace {

// z = softcap tanh(x / softcap) / temperature of one token's head outputs x, and its softmax.
struct MappedRow {
  std::vector<double> z, slope, p;
  double logsumexp, entropy = 0, log_sum_sq, mean = 0;
};

MappedRow Map(const std::vector<double>& x, double softcap, double temperature) {
  MappedRow row;
  for (const double value : x) {
    const double t = softcap == 0 ? 0 : std::tanh(value / softcap);
    row.z.push_back((softcap == 0 ? value : softcap * t) / temperature);
    row.slope.push_back((1 - t * t) / temperature);
    row.mean += row.z.back() / static_cast<double>(x.size());
  }
  const double max = *std::max_element(row.z.begin(), row.z.end());
  double sum = 0, sum_sq = 0;
  for (const double z : row.z) sum += std::exp(z - max);
  row.logsumexp = max + std::log(sum);
  for (const double z : row.z) {
    const double logp = z - row.logsumexp;
    row.p.push_back(std::exp(logp));
    row.entropy -= row.p.back() * logp;
    sum_sq += row.p.back() * row.p.back();
  }
  row.log_sum_sq = std::log(sum_sq);
  return row;
}

struct Head {
  at::Tensor hidden, weight, target, bias;
  int64_t ignore_index;
  double softcap, temperature;
};

// d loss / d z[v] of a token; `is_top1` says whether its target has the highest logit.
using TokenFn =
    std::function<std::vector<double>(int64_t t, int64_t y, const MappedRow& row, double is_top1)>;

// Calls fn for each token whose target counts, and brings its gradients to hidden, weight, bias.
std::vector<at::Tensor> ForEachToken(const Head& head, const TokenFn& fn) {
  const int64_t T = head.hidden.size(0), H = head.hidden.size(1), V = head.weight.size(0);
  at::Tensor dh = at::zeros_like(head.hidden), dw = at::zeros_like(head.weight);
  at::Tensor db = at::zeros_like(head.bias);
  const auto X = head.hidden.accessor<double, 2>(), W = head.weight.accessor<double, 2>();
  auto DX = dh.accessor<double, 2>(), DW = dw.accessor<double, 2>();
  std::vector<double> x(static_cast<size_t>(V));
  for (int64_t t = 0; t < T; ++t) {
    const int64_t y = head.target.data_ptr<int64_t>()[t];
    if (y == head.ignore_index) continue;
    for (int64_t v = 0; v < V; ++v) {
      double sum = head.bias.data_ptr<double>()[v];
      for (int64_t h = 0; h < H; ++h) sum += X[t][h] * W[v][h];
      x[static_cast<size_t>(v)] = sum;
    }
    const MappedRow row = Map(x, head.softcap, head.temperature);
    const double max = *std::max_element(x.begin(), x.end());
    const auto dz = fn(t, y, row, x[static_cast<size_t>(y)] == max ? 1 : 0);
    for (int64_t v = 0; v < V; ++v) {
      const double dx = dz[static_cast<size_t>(v)] * row.slope[static_cast<size_t>(v)];
      db.data_ptr<double>()[v] += dx;
      for (int64_t h = 0; h < H; ++h) {
        DX[t][h] += dx * W[v][h];
        DW[v][h] += dx * X[t][h];
      }
    }
  }
  return {dh, dw, db};
}

}  // namespace

Result FusedLinearLogprobWithOptions(const at::Tensor& hidden, const at::Tensor& weight,
                                     const at::Tensor& target, const at::Tensor& bias,
                                     const FusedLinearLogprobOptions& options,
                                     const at::Tensor& grad) {
  std::vector<at::Tensor> stats;
  for (int i = 0; i < 5; ++i) stats.push_back(at::zeros({hidden.size(0)}, at::kDouble));
  const auto token = [&](int64_t t, int64_t y, const MappedRow& row, double is_top1) {
    const double values[] = {row.z[static_cast<size_t>(y)] - row.logsumexp, row.entropy,
                             row.log_sum_sq, row.mean, is_top1};
    for (size_t i = 0; i < 5; ++i) stats[i].data_ptr<double>()[t] = values[i];
    std::vector<double> dz;
    for (const double p : row.p) dz.push_back(-grad.data_ptr<double>()[t] * p);
    dz[static_cast<size_t>(y)] += grad.data_ptr<double>()[t];
    return dz;
  };
  const auto grads = ForEachToken(
      {hidden, weight, target, bias, options.ignore_index, options.softcap, options.temperature},
      token);
  return {stats, grads};
}

Result FusedLinearCrossEntropyWithOptions(const at::Tensor& hidden, const at::Tensor& weight,
                                          const at::Tensor& target, const at::Tensor& bias,
                                          const at::Tensor& token_weight,
                                          const FusedLinearCrossEntropyOptions& options,
                                          const at::Tensor& grad) {
  const double e = options.label_smoothing, V = static_cast<double>(weight.size(0));
  at::Tensor entropy = at::zeros({hidden.size(0)}, at::kDouble), top1 = at::zeros_like(entropy);
  double loss = 0;
  const auto token = [&](int64_t t, int64_t y, const MappedRow& row, double is_top1) {
    const double factor = options.scale * token_weight.data_ptr<double>()[t];
    const double lse = row.logsumexp;
    double share_sum = 0;
    std::vector<double> dz;
    for (size_t v = 0; v < row.z.size(); ++v) {
      // Of each class's -log p in the loss.
      const double share = e / V + (v == static_cast<size_t>(y) ? 1 - e : 0);
      share_sum += share * (lse - row.z[v]);
      dz.push_back(grad.item<double>() * factor *
                   (row.p[v] - share + 2 * options.lse_square_scale * lse * row.p[v]));
    }
    loss += factor * (share_sum + options.lse_square_scale * lse * lse);
    entropy.data_ptr<double>()[t] = row.entropy;
    top1.data_ptr<double>()[t] = is_top1;
    return dz;
  };
  const auto grads = ForEachToken(
      {hidden, weight, target, bias, options.ignore_index, options.softcap, options.temperature},
      token);
  return {{at::scalar_tensor(loss, at::kDouble), entropy, top1}, grads};
}

}  // namespace liger::kernels::reference
