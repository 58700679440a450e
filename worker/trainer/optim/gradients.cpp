#include "worker/trainer/optim/gradients.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "worker/trainer/optim/sum_of_squares.h"

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

at::Tensor DeviceNorm(const std::vector<at::Tensor>& grads) {
  std::vector<at::Tensor> norms = at::_foreach_norm(grads, 2, at::kFloat);
  return at::linalg_vector_norm(at::stack(norms).to(at::kDouble), 2);
}

}  // namespace

at::Tensor GlobalGradientNorm(const std::vector<at::Tensor>& grads) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> present;
  for (const at::Tensor& grad : grads) {
    if (grad.defined()) present.push_back(grad.is_cpu() ? grad.contiguous() : grad);
  }
  if (present.empty()) return at::zeros({}, at::kDouble);
  if (!present[0].is_cpu()) return DeviceNorm(present);
  return at::scalar_tensor(std::sqrt(CpuSumOfSquares(present)), at::kDouble);
}

at::Tensor ClipFactor(const at::Tensor& norm, double max_norm) {
  const at::Tensor factor = max_norm > 0
                                ? at::full_like(norm, max_norm).div_(norm + 1e-6).clamp_max_(1)
                                : at::ones_like(norm);
  return factor.masked_fill(norm.isfinite().logical_not(), std::nan("")).to(at::kFloat);
}

}  // namespace liger::trainer
