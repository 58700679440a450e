#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/reference/reference.h"

namespace liger::kernels::reference {
namespace {

// What a row of logits says about its target.
struct Row {
  std::vector<double> p;
  double logp, entropy = 0, log_sum_sq, mean_logit = 0, is_top1;
};

Row Softmax(const double* z, int64_t V, int64_t target) {
  const double max = *std::max_element(z, z + V);
  double sum = 0, sum_sq = 0;
  for (int64_t v = 0; v < V; ++v) sum += std::exp(z[v] - max);
  const double logsumexp = max + std::log(sum);
  Row row{.p = std::vector<double>(static_cast<size_t>(V)), .logp = z[target] - logsumexp};
  for (int64_t v = 0; v < V; ++v) {
    const double logp = z[v] - logsumexp, p = std::exp(logp);
    row.p[static_cast<size_t>(v)] = p;
    row.entropy -= p * logp;
    row.mean_logit += z[v] / static_cast<double>(V);
    sum_sq += p * p;
  }
  row.log_sum_sq = std::log(sum_sq);
  row.is_top1 = z[target] == max ? 1 : 0;
  return row;
}

}  // namespace

Result CrossEntropy(const at::Tensor& logits, const at::Tensor& target, double scale,
                    int64_t ignore_index, const at::Tensor& grad) {
  const int64_t T = logits.size(0), V = logits.size(1);
  at::Tensor dlogits = at::zeros_like(logits);
  auto D = dlogits.accessor<double, 2>();
  double loss = 0;
  for (int64_t t = 0; t < T; ++t) {
    const int64_t y = target.data_ptr<int64_t>()[t];
    if (y == ignore_index) continue;
    const Row row = Softmax(logits.data_ptr<double>() + t * V, V, y);
    loss -= row.logp * scale;
    for (int64_t v = 0; v < V; ++v) {
      D[t][v] = grad.item<double>() * scale * (row.p[static_cast<size_t>(v)] - (v == y ? 1 : 0));
    }
  }
  return {{at::scalar_tensor(loss, at::kDouble)}, {dlogits}};
}

Result FusedLinearLogprob(const at::Tensor& hidden, const at::Tensor& weight,
                          const at::Tensor& target, const at::Tensor& bias, int64_t ignore_index,
                          const at::Tensor& grad) {
  const int64_t T = hidden.size(0), H = hidden.size(1), V = weight.size(0);
  std::vector<at::Tensor> stats;
  for (int i = 0; i < 5; ++i) stats.push_back(at::zeros({T}, at::kDouble));
  at::Tensor dh = at::zeros_like(hidden), dw = at::zeros_like(weight), db = at::zeros_like(bias);
  const auto X = hidden.accessor<double, 2>(), W = weight.accessor<double, 2>();
  auto DX = dh.accessor<double, 2>(), DW = dw.accessor<double, 2>();
  std::vector<double> z(static_cast<size_t>(V));
  for (int64_t t = 0; t < T; ++t) {
    const int64_t y = target.data_ptr<int64_t>()[t];
    if (y == ignore_index) continue;
    for (int64_t v = 0; v < V; ++v) {
      double sum = bias.data_ptr<double>()[v];
      for (int64_t h = 0; h < H; ++h) sum += X[t][h] * W[v][h];
      z[static_cast<size_t>(v)] = sum;
    }
    const Row row = Softmax(z.data(), V, y);
    const double values[] = {row.logp, row.entropy, row.log_sum_sq, row.mean_logit, row.is_top1};
    for (size_t i = 0; i < 5; ++i) stats[i].data_ptr<double>()[t] = values[i];
    for (int64_t v = 0; v < V; ++v) {
      const double dz =
          grad.data_ptr<double>()[t] * ((v == y ? 1 : 0) - row.p[static_cast<size_t>(v)]);
      db.data_ptr<double>()[v] += dz;
      for (int64_t h = 0; h < H; ++h) {
        DX[t][h] += dz * W[v][h];
        DW[v][h] += dz * X[t][h];
      }
    }
  }
  return {stats, {dh, dw, db}};
}

Result FusedLinearCrossEntropy(const at::Tensor& hidden, const at::Tensor& weight,
                               const at::Tensor& target, const at::Tensor& bias, double scale,
                               int64_t ignore_index, const at::Tensor& grad) {
  // loss = -scale sum logp, so each token's upstream gradient is -scale grad.
  const at::Tensor upstream = at::full({hidden.size(0)}, -scale * grad.item<double>(), at::kDouble);
  Result logprob = FusedLinearLogprob(hidden, weight, target, bias, ignore_index, upstream);
  const auto& out = logprob.outputs;
  double loss = 0;
  for (int64_t t = 0; t < hidden.size(0); ++t) loss -= scale * out[0].data_ptr<double>()[t];
  return {{at::scalar_tensor(loss, at::kDouble), out[1], out[4]}, logprob.grads};
}

}  // namespace liger::kernels::reference
