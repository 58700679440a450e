#include "worker/trainer/optim/adamw_8bit.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace liger::trainer {
namespace {

constexpr int64_t kBlock = 256;
constexpr int64_t kSmallest = 4096;  // elements of a tensor whose states are quantised
// Elements at a time, so that fp32 values of a large tensor never exist at once.
constexpr int64_t kChunk = kBlock << 14;
constexpr int kRanges = 7;

int64_t Blocks(int64_t count) { return (count + kBlock - 1) / kBlock; }

bool KeepsFp32(const TrainableParameters::Entry& entry) {
  return entry.whole_numel() < kSmallest || entry.name.ends_with("embed_tokens.weight");
}

// [Blocks(n), 256], zeros behind the end of `values` [n].
at::Tensor InBlocks(const at::Tensor& values) {
  const int64_t missing = Blocks(values.numel()) * kBlock - values.numel();
  const at::Tensor whole = missing == 0 ? values : at::constant_pad_nd(values, {0, missing});
  return whole.view({-1, kBlock});
}

}  // namespace

at::Tensor DynamicMap(bool has_sign) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> parts = {at::zeros({1}), at::ones({1})};
  for (int i = 0; i < kRanges; ++i) {
    const int64_t items = (int64_t{1} << (has_sign ? i : i + 1)) + 1;
    const at::Tensor borders = at::linspace(0.1, 1, items, at::kFloat);
    const at::Tensor means = (borders.slice(0, 0, -1) + borders.slice(0, 1)) / 2.0;
    const at::Tensor values = means * std::pow(10.0, i - (kRanges - 1));
    parts.push_back(values);
    if (has_sign) parts.push_back(-values);
  }
  return std::get<0>(at::cat(parts).sort());
}

AdamW8bit::Code::Code(bool has_sign) : map(DynamicMap(has_sign)) {
  borders = (map.slice(0, 0, -1) + map.slice(0, 1)) / 2;
}

void AdamW8bit::Code::MoveTo(at::Device device) {
  map = map.to(device);
  borders = borders.to(device);
}

at::Tensor AdamW8bit::Code::Decode(const at::Tensor& codes, const at::Tensor& absmax) const {
  const at::Tensor values = map.index_select(0, codes.to(at::kInt));
  return InBlocks(values).mul(absmax.unsqueeze(-1)).view(-1).narrow(0, 0, codes.numel());
}

void AdamW8bit::Code::Encode(const at::Tensor& values, at::Tensor codes, at::Tensor absmax) const {
  const at::Tensor blocks = InBlocks(values);
  const at::Tensor largest = blocks.abs().amax(1);
  // A block of zeros stays one.
  const at::Tensor divisor = largest.clamp_min(std::numeric_limits<float>::min()).unsqueeze(-1);
  const at::Tensor nearest = at::bucketize(blocks / divisor, borders, /*out_int32=*/true);
  codes.copy_(nearest.view(-1).narrow(0, 0, values.numel()));
  absmax.copy_(largest);
}

AdamW8bit::AdamW8bit(TrainableParameters& parameters, const AdamWOptions& options,
                     const PrecisionPlan& precision, uint64_t seed)
    : AtenOptimizer(parameters, precision, seed),
      options_(options),
      with_sign_(true),
      without_sign_(false) {
  if (parameters.entries().empty()) return;
  with_sign_.MoveTo(parameters.entries()[0].storage.device());
  without_sign_.MoveTo(parameters.entries()[0].storage.device());
}

AtenOptimizer::States AdamW8bit::MakeStates(const Entry& entry, at::Device device) const {
  const auto fp32 = at::TensorOptions(device).dtype(at::kFloat);
  const at::IntArrayRef shape = entry.storage.sizes();
  if (KeepsFp32(entry)) {
    return {{"exp_avg", at::zeros(shape, fp32)}, {"exp_avg_sq", at::zeros(shape, fp32)}};
  }
  const int64_t blocks = Blocks(entry.storage.numel());
  return {{"exp_avg", at::zeros(shape, fp32.dtype(at::kByte))},
          {"exp_avg_sq", at::zeros(shape, fp32.dtype(at::kByte))},
          {"exp_avg_absmax", at::zeros({blocks}, fp32)},
          {"exp_avg_sq_absmax", at::zeros({blocks}, fp32)}};
}

void AdamW8bit::UpdateValues(bool decay, at::Tensor param, const at::Tensor& grad,
                             at::Tensor exp_avg, at::Tensor exp_avg_sq,
                             double learning_rate) const {
  const double bias1 = 1 - std::pow(options_.beta1, double(step_count()));
  const double bias2 = 1 - std::pow(options_.beta2, double(step_count()));
  exp_avg.mul_(options_.beta1).add_(grad, 1 - options_.beta1);
  exp_avg_sq.mul_(options_.beta2).addcmul_(grad, grad, 1 - options_.beta2);
  const at::Tensor denominator = exp_avg_sq.sqrt().div_(std::sqrt(bias2)).add_(options_.epsilon);
  if (decay) param.mul_(1 - learning_rate * options_.weight_decay);
  param.addcdiv_(exp_avg, denominator, -learning_rate / bias1);
}

void AdamW8bit::Update(const Entry& entry, at::Tensor param, const at::Tensor& grad,
                       double learning_rate, States& states) {
  if (KeepsFp32(entry)) {
    return UpdateValues(entry.decay, param, grad, states.at("exp_avg"), states.at("exp_avg_sq"),
                        learning_rate);
  }
  const at::Tensor flat_param = param.view(-1), flat_grad = grad.reshape(-1);
  const at::Tensor first = states.at("exp_avg").view(-1), second = states.at("exp_avg_sq").view(-1);
  for (int64_t begin = 0; begin < param.numel(); begin += kChunk) {
    const int64_t count = std::min(kChunk, param.numel() - begin);
    const auto part = [&](const at::Tensor& t) { return t.narrow(0, begin, count); };
    const auto blocks = [&](const char* name) {
      return states.at(name).narrow(0, begin / kBlock, Blocks(count));
    };
    const at::Tensor absmax = blocks("exp_avg_absmax"), absmax_sq = blocks("exp_avg_sq_absmax");
    const at::Tensor exp_avg = with_sign_.Decode(part(first), absmax);
    const at::Tensor exp_avg_sq = without_sign_.Decode(part(second), absmax_sq);
    UpdateValues(entry.decay, part(flat_param), part(flat_grad), exp_avg, exp_avg_sq,
                 learning_rate);
    with_sign_.Encode(exp_avg, part(first), absmax);
    without_sign_.Encode(exp_avg_sq, part(second), absmax_sq);
  }
}

}  // namespace liger::trainer
