#include "worker/trainer/optim/adafactor.h"

#include <ATen/ATen.h>

#include <cmath>

namespace liger::trainer {
namespace {

constexpr char kRow[] = "exp_avg_sq_row";
constexpr char kColumn[] = "exp_avg_sq_col";
constexpr char kWhole[] = "exp_avg_sq";
constexpr double kEpsilon = 1e-30;
constexpr double kClipThreshold = 1;
constexpr double kDecayRate = -0.8;

// mean <- beta * mean + (1 - beta) * value
void Average(at::Tensor mean, const at::Tensor& value, double beta) {
  mean.mul_(beta).add_(value, 1 - beta);
}

}  // namespace

AtenOptimizer::States Adafactor::MakeStates(const Entry& entry, at::Device device) const {
  const auto options = at::TensorOptions(device).dtype(at::kFloat);
  std::vector<int64_t> shape = entry.storage.sizes().vec();
  if (shape.size() < 2) return {{kWhole, at::zeros(shape, options)}};
  const int64_t columns = shape.back();
  shape.pop_back();
  States states = {{kRow, at::zeros(shape, options)}};
  shape.back() = columns;
  states[kColumn] = at::zeros(shape, options);
  return states;
}

void Adafactor::Update(const Entry& entry, at::Tensor param, const at::Tensor& grad,
                       double learning_rate, States& states) {
  const double beta = 1 - std::pow(double(step_count()), kDecayRate);
  at::Tensor update = grad.square().add_(kEpsilon);
  if (grad.dim() >= 2) {
    const at::Tensor& row = states.at(kRow);
    const at::Tensor& column = states.at(kColumn);
    Average(row, update.mean(-1), beta);
    Average(column, update.mean(-2), beta);
    const at::Tensor row_factor = (row / row.mean(-1, /*keepdim=*/true)).rsqrt_().unsqueeze(-1);
    at::mul_out(update, row_factor, column.rsqrt().unsqueeze(-2)).mul_(grad);
  } else {
    const at::Tensor& whole = states.at(kWhole);
    Average(whole, update, beta);
    update = whole.rsqrt().mul_(grad);
  }
  const at::Tensor rms = update.norm() / std::sqrt(double(update.numel()));
  update.div_(rms.div_(kClipThreshold).clamp_min_(1));
  if (weight_decay_ > 0 && entry.decay) param.mul_(1 - learning_rate * weight_decay_);
  param.add_(update, -learning_rate);
}

}  // namespace liger::trainer
