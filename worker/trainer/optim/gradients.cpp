#include "worker/trainer/optim/gradients.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "worker/trainer/optim/adamw_cpu.h"

namespace liger::trainer {
namespace {

// Rows of work for the threads; fixed, so that sums have one order.
constexpr int64_t kChunk = int64_t{1} << 16;

double CpuSumOfSquares(const std::vector<at::Tensor>& grads) {
  struct Piece {
    const at::Tensor* grad;
    int64_t begin, end;
  };
  std::vector<Piece> pieces;
  for (const at::Tensor& grad : grads) {
    for (int64_t begin = 0; begin < grad.numel(); begin += kChunk) {
      pieces.push_back({&grad, begin, std::min(begin + kChunk, grad.numel())});
    }
  }
  std::vector<double> partial(pieces.size());
  at::parallel_for(0, int64_t(pieces.size()), 4, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      partial[i] = SumOfSquares(*pieces[i].grad, pieces[i].begin, pieces[i].end);
    }
  });
  double sum = 0;
  for (double value : partial) sum += value;
  return sum;
}

double DeviceNorm(const std::vector<at::Tensor>& grads) {
  std::vector<at::Tensor> norms = at::_foreach_norm(grads, 2, at::kFloat);
  return at::linalg_vector_norm(at::stack(norms).to(at::kDouble), 2).item<double>();
}

}  // namespace

double GlobalGradientNorm(const std::vector<at::Tensor>& grads) {
  at::NoGradGuard no_grad;
  std::vector<at::Tensor> present;
  for (const at::Tensor& grad : grads) {
    if (grad.defined()) present.push_back(grad.is_cpu() ? grad.contiguous() : grad);
  }
  if (present.empty()) return 0;
  return present[0].is_cpu() ? std::sqrt(CpuSumOfSquares(present)) : DeviceNorm(present);
}

double ClipFactor(double norm, double max_norm) {
  if (max_norm <= 0) return 1.0;
  return std::min(1.0, max_norm / (norm + 1e-6));
}

}  // namespace liger::trainer
