#include "kernels/reference/loss_reference.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace liger::kernels::reference {
namespace {

// z' = softcap tanh(z / softcap) of one row, and its softmax.
struct CappedRow {
  std::vector<double> z, slope, p;
  double logsumexp, entropy = 0;
  int64_t argmax;
};

CappedRow Cap(const double* logits, int64_t V, double softcap) {
  CappedRow row;
  for (int64_t v = 0; v < V; ++v) {
    const double t = softcap == 0 ? 0 : std::tanh(logits[v] / softcap);
    row.z.push_back(softcap == 0 ? logits[v] : softcap * t);
    row.slope.push_back(1 - t * t);
  }
  row.argmax = std::max_element(logits, logits + V) - logits;
  const double max = *std::max_element(row.z.begin(), row.z.end());
  double sum = 0;
  for (const double z : row.z) sum += std::exp(z - max);
  row.logsumexp = max + std::log(sum);
  for (const double z : row.z) {
    row.p.push_back(std::exp(z - row.logsumexp));
    row.entropy -= row.p.back() * (z - row.logsumexp);
  }
  return row;
}

}  // namespace

Result CrossEntropyWithOptions(const at::Tensor& logits, const at::Tensor& target,
                               const at::Tensor& class_weight, const CrossEntropyOptions& options,
                               const at::Tensor& grad) {
  const int64_t T = logits.size(0), V = logits.size(1);
  const double e = options.label_smoothing, lambda = options.lse_square_scale;
  const double* w = class_weight.data_ptr<double>();
  const int64_t* y = target.data_ptr<int64_t>();
  double weights = 0, valid = 0;
  for (int64_t t = 0; t < T; ++t) {
    if (y[t] == options.ignore_index) continue;
    weights += w[y[t]];
    valid += 1;
  }
  const bool mean = options.reduction == Reduction::kMean;
  const double factor = options.scale / (mean ? weights : 1);
  const double z_factor = options.scale / (mean ? valid : 1);
  at::Tensor loss = at::zeros({T}, at::kDouble), z_loss = at::zeros_like(loss);
  at::Tensor lse = at::zeros_like(loss), entropy = at::zeros_like(loss);
  at::Tensor argmax = at::zeros_like(loss), dlogits = at::zeros_like(logits);
  auto D = dlogits.accessor<double, 2>();
  for (int64_t t = 0; t < T; ++t) {
    if (y[t] == options.ignore_index) continue;
    const CappedRow row = Cap(logits.data_ptr<double>() + t * V, V, options.softcap);
    const auto at = [&](int64_t v) { return static_cast<size_t>(v); };
    // The weight of each class's -log p.
    std::vector<double> share(static_cast<size_t>(V));
    double total = 0, sum = 0;
    for (int64_t v = 0; v < V; ++v) {
      share[at(v)] = e / static_cast<double>(V) * w[v] + (v == y[t] ? (1 - e) * w[v] : 0);
      total += share[at(v)];
      sum += share[at(v)] * (row.logsumexp - row.z[at(v)]);
    }
    const double z = z_factor * lambda * row.logsumexp * row.logsumexp;
    loss.data_ptr<double>()[t] = factor * sum + z;
    z_loss.data_ptr<double>()[t] = z;
    lse.data_ptr<double>()[t] = row.logsumexp;
    entropy.data_ptr<double>()[t] = row.entropy;
    argmax.data_ptr<double>()[t] = static_cast<double>(row.argmax);
    const double upstream = grad.data_ptr<double>()[grad.dim() == 0 ? 0 : t];
    for (int64_t v = 0; v < V; ++v) {
      const double of_loss = factor * (total * row.p[at(v)] - share[at(v)]);
      const double of_z = 2 * z_factor * lambda * row.logsumexp * row.p[at(v)];
      D[t][v] = upstream * (of_loss + of_z) * row.slope[at(v)];
    }
  }
  if (options.reduction != Reduction::kNone) {
    loss = loss.sum();
    z_loss = z_loss.sum();
  }
  return {{loss, z_loss, lse, entropy, argmax}, {dlogits}};
}

}  // namespace liger::kernels::reference
