#include "worker/trainer/objectives/metric_sums.h"

#include <ATen/ATen.h>

namespace liger::trainer {

void MetricSums::Add(const std::string& name, const at::Tensor& sum, const at::Tensor& weight) {
  const at::Tensor pair_2 =
      at::stack({sum.detach().to(at::kDouble), weight.detach().to(sum.device(), at::kDouble)});
  at::Tensor& entry_2 = sums_2_[name];
  entry_2 = entry_2.defined() ? entry_2 + pair_2 : pair_2;
}

void MetricSums::Add(const std::string& name, const at::Tensor& sum, double weight) {
  Add(name, sum, at::scalar_tensor(weight, sum.options().dtype(at::kDouble)));
}

void MetricSums::DivideBy(double divisor) {
  for (auto& [name, pair_2] : sums_2_) pair_2 = pair_2 / divisor;
}

void MetricSums::Add(const MetricSums& other) {
  for (const auto& [name, pair_2] : other.sums_2_) Add(name, pair_2[0], pair_2[1]);
}

at::Tensor MetricSums::Pack() const {
  std::vector<at::Tensor> rows_2;
  for (const auto& [name, pair_2] : sums_2_) rows_2.push_back(pair_2);
  return rows_2.empty() ? at::empty({0, 2}, at::kDouble) : at::stack(rows_2);
}

void MetricSums::Unpack(const at::Tensor& packed_M2) {
  TORCH_CHECK(packed_M2.size(0) == static_cast<int64_t>(sums_2_.size()),
              "metrics of ranks differ: ", packed_M2.size(0), " and ", sums_2_.size());
  int64_t row = 0;
  for (auto& [name, pair_2] : sums_2_) pair_2 = packed_M2[row++];
}

void MetricSums::Add(const std::string& name, const Value& value, at::Device device) {
  const auto options = at::TensorOptions(device).dtype(at::kDouble);
  Add(name, at::scalar_tensor(value.sum, options), value.weight);
}

std::map<std::string, MetricSums::Value> MetricSums::Values() const {
  const at::Tensor packed_M2 = Pack().cpu();
  const auto pairs = packed_M2.accessor<double, 2>();
  std::map<std::string, Value> values;
  int64_t row = 0;
  for (const auto& [name, pair_2] : sums_2_) {
    values[name] = {pairs[row][0], pairs[row][1]};
    ++row;
  }
  return values;
}

std::map<std::string, double> MetricSums::Means() const {
  std::map<std::string, double> means;
  for (const auto& [name, value] : Values()) {
    if (value.weight != 0) means[name] = value.sum / value.weight;
  }
  return means;
}

}  // namespace liger::trainer
