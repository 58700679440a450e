#ifndef LIGER_WORKER_TRAINER_OBJECTIVES_METRIC_SUMS_H_
#define LIGER_WORKER_TRAINER_OBJECTIVES_METRIC_SUMS_H_

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

namespace liger::trainer {

// Means kept as (weighted sum, weight), so that micro-batches and ranks
// combine exactly: add the sums, add the weights, divide once at the end.
// Values stay on their device; nothing here waits for it before Means().
class MetricSums {
 public:
  // `sum` and `weight` are scalars on one device, detached on entry.
  void Add(const std::string& name, const at::Tensor& sum, const at::Tensor& weight);
  void Add(const std::string& name, const at::Tensor& sum, double weight);
  // As Values() gave it, on `device`.
  struct Value {
    double sum = 0;
    double weight = 0;
  };
  void Add(const std::string& name, const Value& value, at::Device device);
  // Sums and weights: means stay what they are.
  void DivideBy(double divisor);
  // Adds every entry of `other`.
  void Add(const MetricSums& other);

  // [M, 2] fp64, rows in the order of names; what an all-reduce over ranks
  // sums. Ranks of one step hold the same names.
  at::Tensor Pack() const;
  void Unpack(const at::Tensor& packed_M2);

  // Every entry, exactly.
  std::map<std::string, Value> Values() const;
  // Mean by name; an entry of weight 0 (nothing was counted) is left out.
  std::map<std::string, double> Means() const;
  bool empty() const { return sums_2_.empty(); }

 private:
  std::map<std::string, at::Tensor> sums_2_;  // [2] fp64: sum, weight
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OBJECTIVES_METRIC_SUMS_H_
